"""Sentence embeddings without code: the columns of a TSV, CSV or JSON file.

`finetune.definitions` says what the hparam `tasks.<name>` may hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from electra_tf2.text.tokenizer import Tokenizer
from finetune.classification.labels import cell_text
from finetune.classification.table_tasks import TableTask
from finetune.classification.tables import TableRow
from finetune.definitions import Column, EmbeddingDefinition
from finetune.sentences.embedding import EmbeddingTask

if TYPE_CHECKING:
    from configure_finetuning import FinetuningConfig


class TableEmbedding(TableTask, EmbeddingTask):
    """A task of sentence embeddings over the columns of a file.

    Negatives are read from the training file alone, scores from the dev file alone; of a file to
    predict only the first texts are read.

    Args:
        config: the run's hparams.
        name: the task's name.
        tokenizer: text -> ids.
        definition: its columns and files.
    """

    definition: EmbeddingDefinition

    def __init__(
        self,
        config: FinetuningConfig,
        name: str,
        tokenizer: Tokenizer,
        definition: EmbeddingDefinition,
    ):
        self.has_scores, self.scale = definition.label is not None, definition.scale
        super().__init__(config, name, tokenizer)
        self.definition = definition

    def _columns(self, split: str) -> tuple[list[Column], list[Column]]:
        given = self.definition
        further = {
            "train": [given.text_b, given.negative],
            "dev": [given.text_b, given.label],
            "test": [given.text_b],
        }.get(split, [])
        return [given.text, *(column for column in further if column is not None)], []

    def _label_fields(self, row: TableRow, split: str) -> dict[str, Any]:
        given = self.definition
        if split == "train":
            negative = None if given.negative is None else cell_text(row.cells[given.negative])
            fields = {"negative": negative}
        else:
            has_score = given.label is not None
            fields = {"label": self.parse_label(self._label_text(row)) if has_score else None}
        for key, column in given.columns_of_texts().items():
            if column is None or column not in row.cells:
                continue
            if not cell_text(row.cells[column]).strip():
                raise ValueError(f"{key} (the column {column!r}) is empty")
        return fields

"""The checked files of a data set of documents."""

from __future__ import annotations

import dataclasses
from typing import Any

from electra_tf2.data.cutting import CutRule
from electra_tf2.data.records import RecordFiles, open_records
from electra_tf2.text.vocabulary import Vocabulary


@dataclasses.dataclass(frozen=True)
class DocumentFiles(RecordFiles):
    """A checked set of TFRecord files whose records are documents.

    Attributes:
        paths, counts, metadata: As in `RecordFiles`; `counts` are documents, and there always is
            metadata.
        cls_id: Id of [CLS].
        sep_id: Id of [SEP].
    """

    cls_id: int = -1
    sep_id: int = -1

    def rule(self, seed: int, max_seq_length: int) -> CutRule:
        """Returns how the documents are cut."""
        return CutRule(seed, max_seq_length, self.metadata.split_long_lines)


def open_documents(patterns: str, *, vocabulary: Vocabulary, **settings: Any) -> DocumentFiles:
    """Finds the files of a data set of documents and checks that the run can train on them.

    Arguments and errors are those of `open_records`.
    """
    found = open_records(patterns, vocabulary=vocabulary, segmentation="dynamic", **settings)
    return DocumentFiles(
        found.paths, found.counts, found.metadata, vocabulary.cls_id, vocabulary.sep_id
    )

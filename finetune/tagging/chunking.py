"""Text chunking (CoNLL-2000)."""

from __future__ import annotations

from typing import Any

from electra_tf2.text.tokenizer import Tokenizer
from finetune.tagging.tagging_tasks import TaggingTask
from finetune.task_builder import register


@register("chunk")
class Chunking(TaggingTask):
    """Finds noun phrases, verb phrases and the like."""

    def __init__(self, config: Any, tokenizer: Tokenizer):
        super().__init__(config, "chunk", tokenizer, is_token_level=False)

"""The question answering tasks there are: SQuAD 2.0 and 1.1, and four of MRQA 2019."""

from __future__ import annotations

import functools
from typing import Any

from electra_tf2.text.tokenizer import Tokenizer
from finetune.qa.qa_tasks import MRQATask, SQuADTask
from finetune.task_builder import register


@register("squad")
class SQuAD(SQuADTask):
    """SQuAD 2.0 (Rajpurkar et al., 2018): half of the questions to score have no answer."""

    def __init__(self, config: Any, tokenizer: Tokenizer):
        super().__init__(config, "squad", tokenizer, v2=True)


@register("squadv1")
class SQuADv1(SQuADTask):
    """SQuAD 1.1 (Rajpurkar et al., 2016)."""

    def __init__(self, config: Any, tokenizer: Tokenizer):
        super().__init__(config, "squadv1", tokenizer)


def _mrqa_task(name: str, config: Any, tokenizer: Tokenizer) -> MRQATask:
    return MRQATask(config, name, tokenizer)


for _name in ("newsqa", "naturalqs", "triviaqa", "searchqa"):
    register(_name)(functools.partial(_mrqa_task, _name))

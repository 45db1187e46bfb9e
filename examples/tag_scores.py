"""What taggers are compared by: a simple baseline, F1 of spans, and how a tagged text is shown."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from parameter_lists import TaggedText

from finetune.tagging.spans import bioes_tags, official_spans, seqeval_spans

KINDS = {"NAME": "names", "TYPE": "types", "DEFAULT": "defaults"}
"""Kind of span -> its heading; "all" stands for all kinds together."""
_GREEN, _RED, _RESET = "\033[32m", "\033[31m", "\033[0m"

Scores = Mapping[str, float]


class CommonestTag:
    """The baseline: every word gets the tag that it has most often in the training texts.

    Words that training does not have get the commonest tag of the words that it has once.
    """

    def __init__(self, texts: Sequence[TaggedText]):
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        for text in texts:
            for word, tag in zip(*text, strict=True):
                counts[word][tag] += 1
        self._tags = {word: _commonest(tags) for word, tags in counts.items()}
        rare = [tags for tags in counts.values() if tags.total() == 1]
        self._unknown = _commonest(sum(rare, Counter())) if rare else "O"

    def tag(self, words: Sequence[str]) -> list[str]:
        """Returns a tag for each word, as `as_learned` writes it."""
        return as_learned([self._tags.get(word, self._unknown) for word in words])


def score(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> dict[str, float]:
    """Scores tags as fine-tuning does: a span is right if all its words and its kind are.

    Args:
        gold: the tags of each text, as in the files.
        predicted: likewise, or as `as_learned` writes them.

    Returns:
        F1 in percent, of "all" spans and of each kind there is.
    """
    from finetune.tagging.metrics import SpanScorer  # loads TensorFlow, which takes seconds

    labels = sorted({tag for tags in predicted for tag in tags})
    scorer = SpanScorer(labels, [as_learned(tags) for tags in gold])
    for number, tags in enumerate(predicted):
        ids = [labels.index(tag) for tag in tags]
        scorer.update(
            {"eid": number, "loss": 0.0, "predictions": ids, "labels_mask": [1.0] * len(ids)}
        )
    by_kind = {figures.name: figures.f1 for figures in scorer.class_scores().figures}
    return {"all": dict(scorer.get_results())["f1"], **by_kind}


def as_learned(tags: Sequence[str]) -> list[str]:
    """Turns the tags of a file into those that a task of spans learns: B, I, E, S and O."""
    return bioes_tags(seqeval_spans(tags), len(tags))


def table(rows: Mapping[str, Sequence[Scores]]) -> str:
    """Writes scores side by side.

    Args:
        rows: title -> the scores of each trial; their mean is shown.

    Returns:
        Lines without a newline at the end.
    """
    width = max(map(len, rows))
    heads = ["all", *KINDS.values()]
    lines = [" " * (width + 2) + "".join(f"{head:>10}" for head in heads)]
    for title, trials in rows.items():
        means = [fmean(trial.get(kind, 0.0) for trial in trials) for kind in ("all", *KINDS)]
        line = f"  {title:<{width}}" + "".join(f"{mean:10.1f}" for mean in means)
        if len(trials) > 1:
            line += "   (" + ", ".join(f"{trial['all']:.1f}" for trial in trials) + ")"
        lines.append(line)
    return "\n".join(lines)


def render(text: TaggedText, predicted: Sequence[str], *, color: bool) -> str:
    """Shows a text with the spans that were found: [NAME axis]+ is right, [TYPE axis]- is not.

    Args:
        text: the words and their true tags.
        predicted: the tags to show.
        color: whether to colour the marks (for a terminal).

    Returns:
        Two lines: the text, and which spans were missed.
    """
    gold, found = set(seqeval_spans(text.tags)), official_spans(predicted)
    shown: list[str] = []
    position = 0
    for span in found:
        shown += text.words[position : span.start]
        words = " ".join(text.words[span.start : span.end + 1])
        mark, paint = ("+", _GREEN) if span in gold else ("-", _RED)
        marked = f"[{span.type} {words}]{mark}"
        shown.append(f"{paint}{marked}{_RESET}" if color else marked)
        position = span.end + 1
    shown += text.words[position:]
    missed = [
        f"{span.type} {' '.join(text.words[span.start : span.end + 1])}"
        for span in sorted(gold - set(found))
    ]
    right = len(gold) - len(missed)
    summary = f"found {right} of {len(gold)}" + (f"; missed: {', '.join(missed)}" if missed else "")
    return f"  {' '.join(shown)}\n    {summary}"


def _commonest(tags: Counter[str]) -> str:
    """The commonest tag; of equally common ones the first in the alphabet."""
    return min(tags, key=lambda tag: (-tags[tag], tag))

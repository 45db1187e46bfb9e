"""A vocabulary, files and configurations for the tests of question answering."""

import json
import string
import types

import numpy as np

from electra_tf2.text.normalization import UNCASED
from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from finetune.definitions import QADefinition
from finetune.qa.annotations import Passage
from finetune.qa.examples import QAExample
from finetune.qa.tasks import CustomQATask, MRQATask, SQuAD, SQuADv1

WORDS = "the cat sat on mat in paris who where when steve smith 18 ##95 ##43 ##ly anna".split()
# Single letters, so that every Latin word has pieces.
LETTERS = [*string.ascii_lowercase, *(f"##{c}" for c in string.ascii_lowercase)]
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, *WORDS, *LETTERS, *"()-.,'!?#$1"))

DEFAULTS = {
    "max_seq_length": 48,
    "max_query_length": 16,
    "doc_stride": 8,
    "debug": False,
    "n_best_size": 20,
    "max_answer_length": 30,
    "joint_prediction": True,
    "beam_size": 4,
    "answerable_classifier": True,
    "answerable_uses_start_logits": True,
    "answerable_weight": 0.5,
    "qa_na_threshold": -2.75,
    "qa_spans": "characters",
    "qa_score_units": "auto",
    "qa_preds_file": "{:}_preds.json",
    "qa_na_file": "{:}_null_odds.json",
    "qa_eval_file": "{:}_eval.json",
}


def tokenizer(casing=UNCASED):
    return make_tokenizer(VOCABULARY, casing, implementation="reference")


def config(folder="", **values):
    """What question answering asks of a FinetuningConfig; the data lie in `folder`."""
    return types.SimpleNamespace(**{**DEFAULTS, **values}, raw_data_folder=lambda name: str(folder))


def make_task(folder="", kind="squadv1", **values):
    settings = config(folder, **values)
    if kind == "squad":
        return SQuAD(settings, tokenizer())
    if kind == "squadv1":
        return SQuADv1(settings, tokenizer())
    if kind == "mrqa":
        return MRQATask(settings, "newsqa", tokenizer())
    return CustomQATask(settings, "custom", tokenizer(), QADefinition())


def example(passage, *, answer=None, start=None, official=False, question="who?", eid=0, **fields):
    """A question; `answer` is a text of the passage, by default the first of its kind."""
    if answer is not None:
        start = passage.index(answer) if start is None else start
        text = Passage(passage)
        if official:
            first, last = text.official_words(answer, start)
        else:
            start, end, _ = text.locate(answer, start)
            first, last = text.word_at(start), text.word_at(end - 1)
            fields["span"] = (start, end)
        fields.update(answer=answer, first_word=first, last_word=last)
    return QAExample(eid=eid, id=f"q{eid}", question=question, passage=passage, **fields)


def question(name, text="who sat?", answers=(), **fields):
    """A question; an answer is (text, start)."""
    answers = [{"text": text, "answer_start": start} for text, start in answers]
    return {"id": name, "question": text, "answers": answers, **fields}


def squad(*paragraphs):
    """A SQuAD file's content from (context, questions) pairs."""
    paragraphs = [{"context": context, "qas": qas} for context, qas in paragraphs]
    return {"version": "x", "data": [{"title": "t", "paragraphs": paragraphs}]}


def write_squad(folder, split, *paragraphs):
    path = folder / f"{split}.json"
    path.write_text(json.dumps(squad(*paragraphs)), encoding="utf-8")
    return str(path)


def mrqa_lines(*paragraphs):
    """An MRQA file's text from (context, [(name, question, answer, start)]) pairs."""
    lines = [json.dumps({"header": {"dataset": "x"}})]
    for context, qas in paragraphs:
        qas = [
            {
                "qid": name,
                "question": text,
                "answers": [answer, answer.upper()],
                "detected_answers": [
                    {"text": answer, "char_spans": [[start, start + len(answer) - 1]]}
                ],
            }
            for name, text, answer, start in qas
        ]
        lines.append(json.dumps({"context": context, "qas": qas}))
    return "\n".join(lines) + "\n"


def tokens(row):
    return [VOCABULARY.tokens[i] for i in row["input_ids"]]


def outputs(eid, candidates, *, null=0.0, beam=4, loss=1.0):
    """What the joint head gives for a window: `candidates` are (start, end, score of each)."""
    candidates = sorted(candidates, key=lambda c: -c[2])
    starts = list(dict.fromkeys(start for start, _, _ in candidates))
    assert len(starts) <= beam
    result = {
        "eid": eid,
        "loss": np.float32(loss),
        "answerable_logit": np.float32(null),
        "start_top_index": np.zeros(beam, np.int32),
        "start_top_log_probs": np.full(beam, -1e4, np.float32),
        "end_top_index": np.zeros((beam, beam), np.int32),
        "end_top_log_probs": np.full((beam, beam), -1e4, np.float32),
    }
    result["start_top_index"][: len(starts)] = starts
    result["start_top_log_probs"][: len(starts)] = 0.0
    for i, start in enumerate(starts):
        ends = [(end, score) for own, end, score in candidates if own == start]
        for j, (end, score) in enumerate(ends):
            result["end_top_index"][i, j] = end
            result["end_top_log_probs"][i, j] = score
    return result

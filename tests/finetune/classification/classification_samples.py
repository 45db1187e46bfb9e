"""A tokenizer of letters, a configuration, and files of made-up tasks."""

import types

from electra_tf2.text.tokenizer import make_tokenizer
from electra_tf2.text.vocabulary import SPECIAL_TOKENS, Vocabulary
from finetune import task_builder

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENIZER = make_tokenizer(
    Vocabulary((*SPECIAL_TOKENS, *LETTERS, '"', ",")), implementation="reference"
)
CLS, SEP = TOKENIZER.vocabulary.cls_id, TOKENIZER.vocabulary.sep_id


def ids(text):
    """The ids of a text of single letters."""
    return TOKENIZER.encode(text)


def make_config(folder, **values):
    """A configuration whose tasks have their files in `folder`/<task>."""
    defaults = {
        "debug": False,
        "do_train": True,
        "double_unordered": True,
        "head_dropout_prob": 0.1,
        "max_seq_length": 32,
        "tasks": {},
        "raw_data_folder": lambda name: str(folder / name),
    }
    return types.SimpleNamespace(**{**defaults, **values})


def make_task(folder, definition, **values):
    """The task "t" of a definition, with its files in `folder`/t."""
    config = make_config(folder, tasks={"t": definition}, **values)
    return task_builder.get_task(config, "t", TOKENIZER)


def write(path, *lines):
    """Writes lines, and the folders above; returns the path as text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return str(path)


def tsv(*cells):
    """A line of a TSV file."""
    return "\t".join(cells)


# Task -> header and rows of a labelled file, header and rows of a test file.
GLUE_FILES = {
    "cola": ([], [tsv("gj", "1", "", "a b"), tsv("gj", "0", "*", "c")], "index\tsentence", "{}\ta"),
    "sst": (["sentence\tlabel"], ["a b\t1", "c\t0"], "index\tsentence", "{}\ta"),
    "mrpc": (
        ["Quality\t#1 ID\t#2 ID\t#1 String\t#2 String"],
        ["1\t7\t8\ta b\tc", "0\t7\t8\td\te f"],
        "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
        "{}\t7\t8\ta\tb",
    ),
    "sts": (
        ["index\tgenre\tsentence1\tsentence2\tscore"],
        ["0\tg\ta b\tc\t5.000", "1\tg\td\te f\t1.25"],
        "index\tgenre\tsentence1\tsentence2",
        "{}\tg\ta\tb",
    ),
    "qqp": (
        ["id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate"],
        ["0\t1\t2\ta b\tc\t1", "1\t1\t2\td\te f\t0"],
        "id\tquestion1\tquestion2",
        "{}\ta\tb",
    ),
    "mnli": (
        ["index\tp\tpair\tg\tb1\tb2\tp1\tp2\tsentence1\tsentence2\tlabel1\tgold_label"],
        [
            "0\tp\tpair\tg\tb1\tb2\tp1\tp2\ta b\tc\tx\tneutral",
            "1\tp\tpair\tg\tb1\tb2\tp1\tp2\td\te f\tx\tentailment",
        ],
        "index\tp\tpair\tg\tb1\tb2\tp1\tp2\tsentence1\tsentence2",
        "{}\tp\tpair\tg\tb1\tb2\tp1\tp2\ta\tb",
    ),
    "qnli": (
        ["index\tquestion\tsentence\tlabel"],
        ["0\ta b\tc\tentailment", "1\td\te f\tnot_entailment"],
        "index\tquestion\tsentence",
        "{}\ta\tb",
    ),
    "rte": (
        ["index\tsentence1\tsentence2\tlabel"],
        ["0\ta b\tc\tentailment", "1\td\te f\tnot_entailment"],
        "index\tsentence1\tsentence2",
        "{}\ta\tb",
    ),
    "wnli": (
        ["index\tsentence1\tsentence2\tlabel"],
        ["0\ta b\tc\t1", "1\td\te f\t0"],
        "index\tsentence1\tsentence2",
        "{}\ta\tb",
    ),
}


def write_glue_task(folder, task, test_rows=3):
    """Writes a task's files of GLUE into `folder`."""
    header, rows, test_header, test_row = GLUE_FILES[task]
    mnli = task == "mnli"
    for name in ("train", *(("dev_matched", "dev_mismatched") if mnli else ("dev",))):
        write(folder / f"{name}.tsv", *header, *rows)
    for name in ("test_matched", "test_mismatched") if mnli else ("test",):
        write(folder / f"{name}.tsv", test_header, *map(test_row.format, range(test_rows)))
    if mnli:
        lines = [f"{i}\ta\tb" for i in range(test_rows)]
        write(folder / "diagnostic.tsv", "index\tsentence1\tsentence2", *lines)

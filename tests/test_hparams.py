import json
from typing import Any, Literal

import pytest

from electra_tf2.errors import UserError
from electra_tf2.hparams.record import HParams, parse_hparams
from electra_tf2.hparams.types import (
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ProbabilityBelowOne,
    Weights,
    check_value,
    type_name,
)


class Settings(HParams):
    """A record for the tests."""

    # first things
    debug: bool = False  # try things out
    rate: PositiveFloat = 0.5  # a rate
    steps: PositiveInt = 100  # how many,
    #                           and more about that

    # the rest, in
    # two lines
    keep: NonNegativeInt | None = 5  # 0 or null: all
    drop: ProbabilityBelowOne = 0.1
    mode: bool | Literal["auto"] = "auto"  # a switch
    size: Literal["small", "base"] = "small"  # a choice
    width: int | None = None  # follows from size
    path: str = ""  # set by prepare
    overrides: dict[str, Any] = {}  # for others
    labels: list[str] = ["a"]  # some names

    free_on_resume = frozenset({"steps", "path"})

    def prepare(self):
        self.path = "default"

    def resolve(self):
        self.path_seen = self.path
        if self.debug:
            self.steps = 2
        if self.size == "small":
            self.width = 128

    def check(self):
        if self.keep == 13:
            raise UserError("Unlucky.")


def test_defaults():
    settings = Settings()
    assert settings.to_dict() == {
        "debug": False,
        "rate": 0.5,
        "steps": 100,
        "keep": 5,
        "drop": 0.1,
        "mode": "auto",
        "size": "small",
        "width": 128,
        "path": "default",
        "overrides": {},
        "labels": ["a"],
    }
    assert settings.given == frozenset()


def test_overrides_are_seen_by_resolve_and_beat_it():
    settings = Settings(debug=True, steps=7, path="mine")
    assert settings.steps == 7
    assert settings.path_seen == "mine"
    assert settings.given == {"debug", "steps", "path"}
    assert Settings(debug=True).steps == 2
    assert Settings(width=None).width is None
    assert Settings(size="base").width is None


def test_mutable_values_are_copied():
    given = {"a": [1]}
    settings = Settings(overrides=given)
    given["a"].append(2)
    settings.labels.append("b")
    settings.to_dict()["overrides"]["a"].append(3)
    assert settings.overrides == {"a": [1]}
    assert Settings().labels == ["a"]


def test_a_dict_written_as_json_makes_the_same_record():
    settings = Settings(rate=1, labels=["x"], mode=True)
    again = Settings(**json.loads(json.dumps(settings.to_dict())))
    assert again.to_dict() == settings.to_dict()


@pytest.mark.parametrize(
    "name, nearest", [("stepps", "steps"), ("Debug", "debug"), ("overide", "overrides")]
)
def test_unknown_name_suggests_the_nearest(name, nearest):
    with pytest.raises(UserError) as info:
        Settings(**{name: 4})
    assert f"Unknown hparam {name!r}" in info.value.what
    assert info.value.remedy == f"Did you mean {nearest!r}?"
    assert info.value.received == f"{name} = 4"


def test_unknown_name_like_no_other_lists_all():
    with pytest.raises(UserError, match="Use one of: debug, rate, steps, .*labels"):
        Settings(zzzzqqqq=1)


@pytest.mark.parametrize("name", ["given", "warnings", "free_on_resume", "to_dict", "path_seen"])
def test_other_attributes_are_no_hparams(name):
    with pytest.raises(UserError, match="Unknown hparam"):
        Settings(**{name: 1})


@pytest.mark.parametrize(
    "name, value, kept",
    [
        ("rate", 2, 2.0),
        ("keep", None, None),
        ("keep", 0, 0),
        ("drop", 0, 0.0),
        ("mode", False, False),
        ("mode", "auto", "auto"),
        ("size", "base", "base"),
        ("labels", [], []),
        ("overrides", {"a": {"b": 1}}, {"a": {"b": 1}}),
    ],
)
def test_accepted(name, value, kept):
    result = getattr(Settings(**{name: value}), name)
    assert result == kept and type(result) is type(kept)


@pytest.mark.parametrize(
    "name, value, hint",
    [
        ("steps", "4", "Give an integer at least 1. Write 4, without quotes."),
        ("steps", 4.0, "Give an integer at least 1. Write 4, without a point or an exponent."),
        ("steps", True, "Give an integer at least 1."),
        ("steps", None, "Give an integer at least 1."),
        ("steps", 0, "Give a number that is at least 1."),
        ("rate", "0.1", "Give a number more than 0. Write 0.1, without quotes."),
        ("rate", ".5", "Give a number more than 0. Write 0.5, without quotes."),
        ("rate", "-1", "Give a number more than 0."),
        ("rate", "a half", "Give a number more than 0."),
        ("steps", "1.5", "Give an integer at least 1."),
        ("rate", "-inf", "Give a number more than 0."),
        ("rate", 0, "Give a number that is more than 0."),
        ("rate", False, "Give a number more than 0."),
        ("rate", float("nan"), "Give a number more than 0."),
        ("rate", float("inf"), "Give a number more than 0."),
        ("drop", 1.0, "Give a number that is at least 0 and less than 1."),
        ("keep", -1, "Give a number that is at least 0."),
        ("steps", 2**63, "Give a number that is at least 1 and at most 1000000000000."),
        ("width", -(10**13), "Give a number that is at least -1e+12."),
        ("rate", 1e308, "Give a number that is more than 0 and at most 1e+30."),
        ("rate", 1e-50, "Give a number that is further from 0."),
        ("labels", ["a\0"], "Give it without."),
        ("overrides", {"x": [{"a\0b": 1}]}, "Give it without."),
        ("debug", 1, "Give true or false."),
        ("debug", "True", "Give true or false. JSON writes true, without quotes."),
        ("debug", "false", "Give true or false. JSON writes false, without quotes."),
        ("mode", "on", 'Give true or false or "auto".'),
        ("mode", 1, 'Give true or false or "auto".'),
        ("size", "large", 'Give "small" or "base".'),
        ("size", 4, 'Give "small" or "base".'),
        ("path", 4, "Give a string."),
        ("path", None, "Give a string."),
        ("overrides", [1], "Give an object."),
        ("labels", "a", "Give a list (each a string)."),
        ("labels", ["a", 1], "Give a list (each a string)."),
    ],
)
def test_refused(name, value, hint):
    with pytest.raises(UserError) as info:
        Settings(**{name: value})
    assert info.value.remedy == hint
    assert info.value.where == f"hparam {name}"
    assert repr(value) in info.value.received or "NUL" in info.value.what


def test_a_number_that_python_does_not_write():
    with pytest.raises(UserError, match="integer of about 5000 digits") as info:
        Settings(steps=10**5000)
    assert info.value.where == "hparam steps"


def test_what_is_nested_too_deeply():
    value: list = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(UserError, match="nested too deeply") as info:
        Settings(overrides={"x": value})
    assert info.value.where == "hparam overrides"
    with pytest.raises(UserError):
        parse_hparams("[" * 100_000)


def test_a_hparam_must_not_hide_a_method():
    with pytest.raises(TypeError, match="fields"):

        class Wrong(HParams):
            fields: int = 1


def test_check_runs_last():
    with pytest.raises(UserError, match="Unlucky"):
        Settings(keep=13)


def test_type_names():
    assert type_name(PositiveInt | None) == "an integer at least 1 or null"
    assert check_value("x", 3, int | None) == 3
    assert type_name(str | Weights) == "a string or an object (each value a number more than 0)"
    kept = check_value("x", {"a": 1, "b": 0.5}, str | Weights)
    assert kept == {"a": 1.0, "b": 0.5} and isinstance(kept["a"], float)
    with pytest.raises(UserError, match="out of range") as error:
        check_value("x", {"a": 1, "b": -0.5}, str | Weights)
    assert error.value.where == "hparam x: b"


def test_fields_take_their_comments_from_the_source():
    fields = {field.name: field for field in Settings.fields()}
    assert list(fields) == Settings.names()
    assert fields["debug"].comment == "try things out"
    assert fields["steps"].comment == "how many, and more about that"
    assert fields["drop"].comment == ""
    assert fields["steps"].group == "first things"
    assert fields["keep"].group == fields["labels"].group == "the rest, in two lines"


def test_description_for_help():
    lines = Settings.describe(width=60).splitlines()
    assert "  first things:" in lines and "  the rest, in two lines:" in lines
    assert "    rate = 0.5 (a number more than 0): a rate" in lines
    assert "    path (a string): set by prepare" in lines
    assert max(map(len, lines)) <= 60


def test_changed_on_resume():
    old = Settings().to_dict()
    new = Settings(steps=5, path="elsewhere", rate=0.25, size="base").to_dict()
    assert Settings.changed_on_resume(old, old) == []
    assert Settings.changed_on_resume(old, new) == [
        ("rate", 0.5, 0.25),
        ("size", "small", "base"),
        ("width", 128, None),
    ]


def test_changed_on_resume_counts_what_an_old_file_lacks_as_the_default():
    old = Settings().to_dict()
    del old["rate"], old["mode"]
    new = Settings(mode=False).to_dict()
    assert Settings.changed_on_resume(old, new) == [("mode", "auto", False)]


@pytest.mark.parametrize(
    "text, values",
    [
        ("", {}),
        ("  ", {}),
        ("{}", {}),
        ('{"a": 1, "b": {"c": [true, null]}}', {"a": 1, "b": {"c": [True, None]}}),
        ("a=1", {"a": 1}),
        ("a=1 b=2.5e-3", {"a": 1, "b": 2.5e-3}),
        ("a=1,b=x", {"a": 1, "b": "x"}),
        ("a=1 ,  b=x,", {"a": 1, "b": "x"}),
        ("a=true b=null c=base d=True", {"a": True, "b": None, "c": "base", "d": "True"}),
        ('o={"x": 1, "y": [2, 3]} b=2', {"o": {"x": 1, "y": [2, 3]}, "b": 2}),
        ('o={"x": 1, "y": [2, 3]},b=2', {"o": {"x": 1, "y": [2, 3]}, "b": 2}),
        ('p="a b" q="1"', {"p": "a b", "q": "1"}),
        ("p=/x/*.tfrecord,/y/*.tfrecord b=2", {"p": "/x/*.tfrecord,/y/*.tfrecord", "b": 2}),
        ("p=1,2", {"p": "1,2"}),
        ("p=3days,b=2", {"p": "3days", "b": 2}),
        ("p=a=b", {"p": "a=b"}),
        ("p= b=2", {"p": "", "b": 2}),
        ("p=NaN", {"p": "NaN"}),
        ("p={a,b}.tsv", {"p": "{a,b}.tsv"}),
        ("path=/runs/x.json", {"path": "/runs/x.json"}),
    ],
)
def test_parse(text, values):
    assert parse_hparams(text) == values


@pytest.mark.parametrize(
    "text, where",
    [
        ('{"a": 1,}', "--hparams, line 1 column"),
        ('{"a": 1,\n "b" 2}', "--hparams, line 2 column 6"),
        ('{"a": 1', "--hparams, line 1 column 8"),
        ("a=1 stray", "--hparams, line 1 column 5"),
        ("a=1\nb=2 =3", "--hparams, line 2 column 5"),
        ("[1, 2]", "--hparams"),
        ("4", "--hparams"),
        ('{"a": NaN}', "--hparams"),
        ('{"a": 1, "a": 2}', "--hparams"),
        ("a=1 a=2", "--hparams"),
        ('b=2 a={"x": 1, "x": 2}', "--hparams"),
        ('a={"x": NaN}', "--hparams"),
        ("{'a': 1}", "--hparams, line 1 column 2"),
        ("-a=1", "--hparams, line 1 column 1"),
        ("a = 1", "--hparams, line 1 column 1"),
    ],
)
def test_parse_errors_name_the_position(text, where):
    with pytest.raises(UserError) as info:
        parse_hparams(text)
    assert info.value.where.startswith(where)
    assert info.value.received and info.value.remedy


def test_a_name_twice_in_a_value_is_named():
    with pytest.raises(UserError, match="'x' is given twice"):
        parse_hparams('a={"x": 1, "x": 2}')


def test_parse_files(tmp_path):
    file = tmp_path / "my hparams.json"
    file.write_bytes(b'\xef\xbb\xbf{"a": 1}\n')
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("a=1\nb=x\n")
    assert parse_hparams(str(file)) == {"a": 1}
    assert parse_hparams(f"@{file}") == {"a": 1}
    assert parse_hparams(f"@{pairs}") == {"a": 1, "b": "x"}


def test_parse_errors_in_files(tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text('{\n  "a": tru\n}')
    with pytest.raises(UserError) as info:
        parse_hparams(str(broken))
    assert info.value.where == f"{broken}, line 2 column 8"
    assert info.value.received == '"a": tru'

    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"a": "\xe9"}')
    with pytest.raises(UserError, match="not UTF-8"):
        parse_hparams(str(latin))

    with pytest.raises(UserError, match="can't be read") as info:
        parse_hparams(str(tmp_path / "missing.json"))
    assert info.value.where == str(tmp_path / "missing.json")
    with pytest.raises(UserError, match="can't be read"):
        parse_hparams(f"@{tmp_path}")

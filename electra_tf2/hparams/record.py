"""Typed hparam records: defaults on one page, checked overrides, errors that help.

A record is a class that lists one hparam per line, with its type, its default and a comment:

    class Settings(HParams):
        # optimization
        learning_rate: PositiveFloat = 5e-4  # peak learning rate
        optimizer: Literal["adamw"] = "adamw"  # how gradients become updates

    settings = Settings(learning_rate=1e-3)
    settings.learning_rate  # 0.001
    Settings(lerning_rate=1e-3)  # UserError: ... Did you mean 'learning_rate'?

The types are those of `electra_tf2.hparams.types`.
"""

from __future__ import annotations

import copy
import inspect
import io
import textwrap
import tokenize
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from electra_tf2.errors import UserError, nearest_name_hint
from electra_tf2.hparams.text import parse_hparams
from electra_tf2.hparams.types import check_value, shown_value, type_name

__all__ = ["HParamField", "HParams", "contradiction", "parse_hparams"]


@dataclass(frozen=True)
class HParamField:
    """One hparam of a record.

    Attributes:
        name: its name.
        type: its annotation, resolved.
        default: the value before size defaults, debug mode and overrides.
        comment: what it means: the comment beside it in the source.
        group: the heading it stands under in the source, "" if none.
    """

    name: str
    type: Any
    default: Any
    comment: str
    group: str

    def __str__(self) -> str:
        default = "" if self.default == "" else f" = {self.default!r}"
        shown = f"{self.name}{default} ({type_name(self.type)})"
        return f"{shown}: {self.comment}" if self.comment else shown


class HParams:
    """Base of all hparam records; see the module's docstring.

    The constructor sets the defaults, then calls `prepare`, applies the overrides, calls `resolve`,
    applies the overrides again and calls `check`. Applied twice, the user's values are there for
    `resolve` to see and beat what it sets (as in the official program).

    Args:
        **overrides: values by hparam name.

    Attributes:
        given: names of the hparams that the user set.
        warnings: what the user should be told although it is not an error; the caller prints them.

    Raises:
        UserError: a name is unknown or a value has the wrong type or lies out of range.
    """

    # Hparams that may differ when a run is resumed. Not an hparam itself: it has no annotation.
    free_on_resume = frozenset()

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        shadowed = [name for name in inspect.get_annotations(cls) if hasattr(HParams, name)]
        if shadowed:
            raise TypeError(f"Hparams hide methods of HParams. Received: {shadowed}")

    def __init__(self, /, **overrides: Any):
        self.given: frozenset[str] = frozenset(overrides)
        self.warnings: list[str] = []
        for name in self.names():
            setattr(self, name, copy.deepcopy(getattr(type(self), name)))
        self.prepare()
        self._apply(overrides)
        self.resolve()
        self._apply(overrides)
        self.check()

    def prepare(self) -> None:
        """Sets the defaults that an expression can't state; sees no override."""

    def resolve(self) -> None:
        """Sets the values that follow from others; the user's own values are then put back."""

    def check(self) -> None:
        """Raises a UserError for values that don't go together, and fills `warnings`."""

    def _apply(self, overrides: Mapping[str, Any]) -> None:
        hints = self.types()
        for name, value in overrides.items():
            if name not in hints:
                raise UserError(
                    f"Unknown hparam {name!r}.",
                    where=f"hparam {name}",
                    received=f"{name} = {shown_value(value)}",
                    remedy=nearest_name_hint(name, hints),
                )
            setattr(self, name, copy.deepcopy(check_value(name, value, hints[name])))

    def to_dict(self) -> dict[str, Any]:
        """All hparams with their values, in the order of the page; can be written as JSON."""
        return {name: copy.deepcopy(getattr(self, name)) for name in self.names()}

    @classmethod
    def types(cls) -> dict[str, Any]:
        """Annotations by hparam name, in the order of the page."""
        return typing.get_type_hints(cls, include_extras=True)

    @classmethod
    def names(cls) -> list[str]:
        """The hparams' names, in the order of the page."""
        return list(cls.types())

    @classmethod
    def fields(cls) -> list[HParamField]:
        """The hparams with the comments that stand beside them in the source."""
        comments = _comments(inspect.getsource(cls))
        return [
            HParamField(name, hint, getattr(cls, name), *comments.get(name, ("", "")))
            for name, hint in cls.types().items()
        ]

    @classmethod
    def describe(cls, width: int = 100) -> str:
        """A list of all hparams under their headings, for `--help`.

        Args:
            width: longest line, in characters.
        """
        lines, group = ["hparams:"], None
        for field in cls.fields():
            if field.group != group:
                group = field.group
                lines += ["", f"  {group}:"]
            lines += textwrap.wrap(
                str(field),
                width,
                initial_indent="    ",
                subsequent_indent="        ",
                break_long_words=False,
                break_on_hyphens=False,
            )
        return "\n".join(lines)

    @classmethod
    def changed_on_resume(
        cls, old: Mapping[str, Any], new: Mapping[str, Any]
    ) -> list[tuple[str, Any, Any]]:
        """Hparams that differ although a resumed run has to keep them.

        Args:
            old: `to_dict()` of the run that wrote the model folder. An hparam that it lacks (an
                older version wrote it) counts as the default.
            new: `to_dict()` of the run that wants to continue it.

        Returns:
            Name, old value and new value of each such hparam; empty if the run may be resumed.
        """
        kept = cls.names_kept_on_resume()
        values = [(n, old.get(n, getattr(cls, n)), new.get(n, getattr(cls, n))) for n in kept]
        return [(name, before, after) for name, before, after in values if before != after]

    @classmethod
    def names_kept_on_resume(cls) -> list[str]:
        """The hparams that a resumed run has to keep, in the order of the page."""
        return [name for name in cls.names() if name not in cls.free_on_resume]


def contradiction(what: str, values: Mapping[str, Any], remedy: str) -> UserError:
    """The error for hparams whose values are impossible, or don't go together."""
    received = ", ".join(f"{name} = {value!r}" for name, value in values.items())
    return UserError(what, where="hparams", received=received, remedy=remedy)


def _comments(source: str) -> dict[str, tuple[str, str]]:
    """Comment and heading of each hparam in a record's source.

    A comment line of its own after a blank line is a heading; one after an hparam or a heading
    continues that one's text.
    """
    found: dict[str, tuple[str, str]] = {}
    group, name, after_blank = "", "", False
    for token in tokenize.generate_tokens(io.StringIO(textwrap.dedent(source)).readline):
        line = token.line.strip()
        if token.type == tokenize.NL and not line:
            name, after_blank = "", True
        elif token.type == tokenize.NAME and token.start[1] == 4:
            name, after_blank = token.string, False
            if line.startswith(f"{name}:"):
                found[name] = ("", group)
        elif token.type == tokenize.COMMENT:
            text = token.string.lstrip("# ")
            if after_blank:
                group, name = text, ""
            elif name in found:
                found[name] = (f"{found[name][0]} {text}".strip(), group)
            else:
                group = f"{group} {text}"
            after_blank = False
    return found

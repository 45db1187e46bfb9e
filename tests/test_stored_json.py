import dataclasses
import math
from typing import Any, Literal, NamedTuple

import pytest

from electra_tf2.errors import UserError
from electra_tf2.stored_json import parse_record


class Point(NamedTuple):
    x: int
    name: str = "p"


@dataclasses.dataclass(frozen=True)
class Shape:
    kind: Literal["line", "circle"]
    points: list[Point]
    size: float | None = None
    more: dict[str, float] = dataclasses.field(default_factory=dict)
    anything: Any = None


def parse(content):
    return parse_record(Shape, content, "a.json", "The shape", "Draw again.")


def test_a_record_with_records_in_it():
    content = {"kind": "line", "points": [{"x": 1}, [2, "q"]], "size": 3, "more": {"a": None}}
    shape = parse(content | {"of a newer version": 1})
    assert (shape.kind, shape.points, shape.size) == ("line", [Point(1), Point(2, "q")], 3.0)
    assert math.isnan(shape.more["a"]) and shape.anything is None


@pytest.mark.parametrize(
    "content, field",
    [
        ({"points": []}, "kind"),
        ({"kind": "square", "points": []}, "kind"),
        ({"kind": ["line"], "points": []}, "kind"),
        ({"kind": "line", "points": {}}, "points"),
        ({"kind": "line", "points": [{"x": 1}, {"x": 1.0}]}, "points[1].x"),
        ({"kind": "line", "points": [{"x": True}]}, "points[0].x"),
        ({"kind": "line", "points": [{"x": 1 << 63}]}, "points[0].x"),
        ({"kind": "line", "points": [{"name": "a"}]}, "points[0].x"),
        ({"kind": "line", "points": [], "size": math.inf}, "size"),
        ({"kind": "line", "points": [], "size": 10**400}, "size"),
        ({"kind": "line", "points": [], "more": {"a": "1"}}, "more.a"),
    ],
)
def test_the_field_is_named(content, field):
    with pytest.raises(UserError) as error:
        parse(content)
    assert error.value.where == f"a.json, field {field}"
    assert error.value.received and error.value.remedy == "Draw again."

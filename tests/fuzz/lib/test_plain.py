"""Records become plain data and come back, and nothing else does."""

import json
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pytest

from fuzz.lib.plain import PlainError, parsed, plain


class Point(NamedTuple):
    x: int
    name: str = ""


@dataclass(frozen=True)
class Record:
    data: bytes
    points: tuple[Point, ...]
    kind: Literal["a", "b"]
    seconds: float | None
    true: bool


RECORD = Record(b"\x00\xff", (Point(1, "one"), Point(-2)), "a", 1.5, True)


def test_a_record_comes_back_through_json() -> None:
    told = json.loads(json.dumps(plain(RECORD)))
    assert parsed(Record, told, "record") == RECORD
    assert parsed(Record, {**told, "seconds": None}, "record").seconds is None
    whole = parsed(Record, {**told, "seconds": 3}, "record").seconds
    assert whole == 3.0 and isinstance(whole, float)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"data": "§"}, "record.data: no base64"),
        ({"data": [1]}, "record.data: list in place of str"),
        ({"points": {}}, "record.points: dict in place of list"),
        ({"points": [{"x": "1", "name": ""}]}, r"record.points\[0\].x: str in place of int"),
        ({"points": [{"x": True, "name": ""}]}, r"record.points\[0\].x: bool in place of int"),
        ({"points": [{"x": 1}]}, r"record.points\[0\]: name is missing"),
        ({"kind": "c"}, "record.kind: 'c' is none of 'a', 'b'"),
        ({"seconds": "1"}, "record.seconds: str in place of int or float"),
        ({"seconds": 10**400}, "record.seconds: too great"),
        ({"true": 1}, "record.true: int in place of bool"),
        ({"more": 1}, "record: unknown field 'more'"),
    ],
)
def test_what_is_no_record_is_refused(change: dict[str, object], why: str) -> None:
    with pytest.raises(PlainError, match=f"^{why}"):
        parsed(Record, {**plain(RECORD), **change}, "record")


@pytest.mark.parametrize("data", [None, [], "record", 1])
def test_what_is_no_dictionary_is_no_record(data: object) -> None:
    with pytest.raises(PlainError, match="in place of dict"):
        parsed(Record, data, "record")

"""How two observations differ, and which fields of them are compared."""

from typing import Any

from fuzz.forms.text import parse
from fuzz.subjects.difference import Kind, difference, shared, told

MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
CASE = parse(MAP + "touch(0x200000, 0x2000)\n")
FULL: dict[str, Any] = {
    "ret": [0x200000, 0],
    "pt": [0, 0x3000],
    "vmas": [[0x200000, 0x204000, "rw-p"]],
    "pages": [[512, 2, "P", 1]],
    "contents": [[512, 2, 1]],
}


def test_fields_that_one_side_does_not_have_are_not_compared() -> None:
    less = {"ret": FULL["ret"], "vmas": FULL["vmas"], "contents": None}
    assert shared(less, FULL) == ["ret", "vmas"]
    assert difference(CASE, less, FULL) is None
    assert difference(CASE, FULL, less | {"vmas": []}) == (Kind("vmas", "touch", ""), 1)


def test_what_is_known_of_both_is_told() -> None:
    less = {"ret": [0x200000, "-EFAULT"], "contents": [[512, 1, 7]]}
    assert difference(CASE, less, FULL) == (Kind("ret", "touch", ""), 1)
    lines = told(CASE, less, FULL, "emulator").splitlines()
    assert lines[1] == "touch(0x200000, 0x2000) = -EFAULT    <-- model: 0"
    assert lines[2:] == [
        "contents: emulator [0x200000, 0x201000) content 7, "
        "model [0x200000, 0x202000) contents 1 to 2"
    ]


def test_pages_are_told_in_bytes_of_where_they_are() -> None:
    less = {"ret": [0x200000, {"segv": [[129, 1]]}], "contents": [[128, 1, 1]]}
    lines = told(CASE, less, FULL, "machine", page_bytes=16384).splitlines()
    assert lines[1] == "touch(0x200000, 0x2000) = SEGV[0x204000, 0x208000)    <-- model: 0"
    assert lines[2].startswith("contents: machine [0x200000, 0x204000) content 1, model ")


def test_what_was_said_of_a_death_is_told() -> None:
    died = {"crash": "ended with exit code 1", "said": "FATAL: assertion failed"}
    assert told(CASE, died, FULL, "emulator").splitlines()[-2:] == [
        "emulator: ended with exit code 1 (FATAL: assertion failed)",
        "model: ends",
    ]
    assert difference(CASE, died, FULL) == (Kind("crash", "touch", "ended with exit code 1"), 1)

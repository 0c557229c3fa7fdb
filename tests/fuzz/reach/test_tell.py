"""What is reached, in words."""

from fuzz.reach.reached import Reached
from fuzz.reach.tell import change, never_run, ranges, table

ONE = Reached(
    "engine/one.py",
    run=frozenset({3, 4}),
    defined=frozenset({1}),
    never=frozenset({6, 7, 8, *range(100, 200, 2)}),
    branches=2,
    untaken=((3, 6), (4, -1)),
)
TWO = Reached("engine/longer_name.py", frozenset({1, 2, 3}), frozenset(), frozenset())
EMPTY = Reached("engine/__init__.py", frozenset(), frozenset(), frozenset())


def test_a_table_fits_the_terminal() -> None:
    lines = list(table([ONE, TWO, EMPTY], 80))
    assert len(lines) == 4
    assert max(map(len, lines)) == 80
    assert lines[1].split()[:6] == ["engine/one.py", "56", "53", "2", "2", "5.2%"]
    assert "5.2%  6-8, 100, 102," in lines[1]
    assert lines[1].endswith("…")
    assert lines[2].split() == ["engine/longer_name.py", "3", "0", "0", "0", "100.0%"]
    assert lines[3].split() == ["all", "59", "53", "2", "2", "9.8%"]


def test_ranges_of_lines() -> None:
    assert ranges([]) == ""
    assert ranges({9, 1, 3, 2, 7}) == "1-3, 7, 9"


def test_what_became_of_a_change() -> None:
    files = {ONE.path: ONE, TWO.path: TWO}
    changed = {ONE.path: {1, 3, 6, 7}, TWO.path: {2}}
    assert list(change(changed, files, "HEAD")) == [
        "engine/one.py: never run: 6-7",
        "engine/one.py: 3 never went on to line 6",
        "2 of 4 changed statements were run; 1 only define something",
    ]
    assert never_run(changed, files)
    assert not never_run({TWO.path: {2}, ONE.path: {1, 4}}, files)
    assert list(change({ONE.path: {4}}, files, "HEAD")) == [
        "engine/one.py: 4 never went on to the end of its function",
        "1 of 1 changed statements were run",
    ]
    (told,) = change({ONE.path: {1}}, files, "HEAD")
    assert told == "nothing changed is run; 1 only define something"
    assert list(change({}, files, "v1")) == ["no statement of the model differs from v1"]


def test_a_file_that_nobody_imports_was_never_run() -> None:
    changed = {"engine/new.py": {1}}
    assert next(change(changed, {}, "HEAD")) == "engine/new.py: never run: 1"
    assert never_run(changed, {})

"""Marks: where they are, and that tests and cases reach what they explain."""

from pathlib import Path

import pytest

from engine.base.kernel import SWITCHES, releases
from fuzz.execute import execute
from fuzz.forms.text import load
from fuzz.reach.marks import Mark, MarkError, explained, explaining, marks, marks_in, of_switches
from fuzz.reach.met import Met, met
from fuzz.reach.tell import refuted
from fuzz.reach.watch import Watch
from fuzz.showing import expectations, kernel_for
from tests.lib.constants import ROOT

SOURCE = """\
def f(x):
    if x:
        return 1  # mark: one
    # mark: two, unreachable: x is
    # never false
    y = g(
        x
    )
    # mark: three
    return y  # why
"""
SEVERAL = ("linux-5.0", "linux-6.16", "linux-7.3")
CASES = sorted({test for names in explained().values() for test in names if ".case" in test})


def test_a_mark_is_of_the_statement_beside_it_or_below() -> None:
    found = [(mark.name, mark.line, mark.unreachable) for mark in marks_in(SOURCE, "x.py")]
    assert found == [("one", 3, ""), ("two", 6, "x is never false"), ("three", 10, "")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1  # mark: Two words\n", "x.py:1: not `# mark: NAME`"),
        ("x = (\n    1,  # mark: one\n)\n", "x.py:2: one marks no statement"),
        ("# mark: one\n", "x.py:1: one marks no statement"),
    ],
)
def test_what_is_no_mark_is_told(source: str, message: str) -> None:
    with pytest.raises(MarkError, match=message):
        list(marks_in(source, "x.py"))


def test_a_name_is_that_of_one_mark(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1  # mark: one\n")
    with pytest.raises(MarkError, match=r"b\.py:1: one is the mark of .*a\.py:1, too"):
        marks(tmp_path)


@pytest.mark.parametrize("mark", marks(), ids=lambda mark: mark.name)
def test_each_mark_is_explained(mark: object) -> None:
    assert explaining(mark)  # type: ignore[arg-type]


def test_nothing_explains_what_is_no_mark() -> None:
    assert explained().keys() <= {mark.name for mark in marks()}


@pytest.mark.parametrize("path", CASES)
def test_a_case_reaches_what_it_explains(path: str) -> None:
    """On one of the kernels that it speaks of, or of some others."""
    case, places = load(ROOT / path), {(mark.path, mark.line): mark.name for mark in marks()}
    names = {*expectations(case), *filter(None, [case.kernel]), *SEVERAL}
    with Watch(places) as watch:
        for name in names:
            execute(case.program(), kernel_for(case, name), stop=False, check=False)
    due = {name for name, tests in explained().items() if path in tests}
    assert due <= {places[place] for place in watch.ran}


def test_switches_have_two_marks_each() -> None:
    found = {mark.name: mark for mark in of_switches()}
    assert len(found) == 2 * sum(not switch.unread for switch in SWITCHES.values())
    assert found["+rollback_nofail"].unreachable == "no release has it"
    assert found["-move_pmd"].unreachable == "every release has it"
    assert found["+realign"].path == "engine/move.py"
    assert not found["+realign"].unreachable
    assert explaining(found["-realign"])[0].endswith("[realign]")


@pytest.mark.slow
def test_what_is_told_to_be_unreachable_is_not_reached() -> None:
    """By no case of the corpus, on no release."""
    found, ran = met(
        sorted((ROOT / "corpus").rglob("*.case")), [], [one.name for one in releases()]
    )
    assert ran.programs > 300
    assert not ran.failed
    assert [one.mark.name for one in found if one.refuted] == []
    assert sum(bool(one.mark.unreachable) for one in found) > 10


def test_what_was_reached_after_all_is_told() -> None:
    mark = Mark("one", "engine/x.py", 3, "nobody asks")
    assert not Met(mark, 0, ()).refuted
    reached = Met(mark, 2, ())
    assert reached.refuted
    assert list(refuted([reached])) == ["one was reached, unlike its mark says: nobody asks"]


def test_lines_are_noted_as_they_run(tmp_path: Path) -> None:
    source = "def f(x):\n    if x:\n        return 1\n    return 2\n"
    path = tmp_path / "module.py"
    names: dict[str, object] = {}
    exec(compile(source, str(path), "exec"), names)
    function = names["f"]
    assert callable(function)
    with Watch([(str(path), 3), (str(path), 4)]) as watch:
        function(0)
        assert watch.ran == {(str(path), 4)}
        watch.ran.clear()
        function(1)
    function(0)
    assert watch.ran == {(str(path), 3)}

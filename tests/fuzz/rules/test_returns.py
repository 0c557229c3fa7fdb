"""A call that does not return is a violation, which says where it was in the engine."""

import re
from collections.abc import Callable
from typing import NoReturn

import pytest

from engine.base.kernel import kernel_named
from engine.base.points import ENTER, Point
from engine.state.space import AddressSpace
from fuzz.execute import Outcome, execute
from fuzz.forms.text import parse
from fuzz.lib.processes import TooLong
from fuzz.rules.index import BY_SLUG
from fuzz.rules.returns import ENDINGS
from fuzz.rules.rule import Severity
from tests.lib.breaks import breaks, looked
from tests.lib.listening import at

MOVES = """\
mmap(0x3fe000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x3fe000, 0x2000)
mremap(0x3fe000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x1fe000)
munmap(0x1fe000, 0x2000)
"""


def run(**how: object) -> Outcome:
    """Run the program above."""
    outcome = execute(parse(MOVES), kernel_named("linux-6.18"), stop=False, **how)  # type: ignore[arg-type]
    looked(found.violation for found in outcome.violations)
    return outcome


def raising(error: BaseException) -> Callable[..., NoReturn]:
    """A function that fails."""

    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


@pytest.mark.parametrize(
    ("error", "slug", "found"),
    [
        pytest.param(error, slug, found, marks=breaks(slug), id=f"{slug}-{found}")
        for error, slug, found in (
            (AssertionError("planted"), "exception", "AssertionError: planted"),
            (KeyError(3), "exception", "KeyError: 3"),
            (AssertionError(), "exception", "AssertionError"),
            (TooLong(), "timeout", "no end"),
            (MemoryError(), "memory", "no memory left"),
        )
    ],
)
def test_a_call_that_raises_ends_the_program(
    error: BaseException, slug: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = run()
    assert sound.ending is None and len(sound.results) == 4 and not sound.violations
    monkeypatch.setattr("engine.move._move_table", raising(error))
    outcome = run()
    assert outcome.results == sound.results[:2]
    assert outcome.page_tables == sound.page_tables[:2]
    ((call, violation),) = outcome.violations
    assert (call, violation.rule) == (2, slug)
    assert outcome.ending is violation
    assert re.fullmatch(rf"{found} in \w+, engine/\w+\.py:\d+", violation.found)
    assert violation.where == outcome.space.arena


def test_what_was_broken_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def report(space: AddressSpace, point: Point) -> None:
        space.report(BY_SLUG["vma-order"].broken(space.arena, "planted", "nothing"))

    monkeypatch.setattr("engine.move._move_table", raising(AssertionError("later")))
    outcome = run(listeners=[at(ENTER)(report)])
    assert [one.rule for _, one in outcome.violations] == ["vma-order", "exception"]


def test_what_a_listener_raises_is_no_finding() -> None:
    with pytest.raises(AssertionError, match="a rule fails"):
        run(listeners=[at(ENTER)(raising(AssertionError("a rule fails")))])


def test_a_listener_that_is_out_of_time_was_called_by_the_model() -> None:
    outcome = run(listeners=[at(ENTER)(raising(TooLong()))])
    assert outcome.ending is not None
    assert re.fullmatch(r"no end in announce, engine/move\.py:\d+", outcome.ending.found)


def test_they_are_the_last_to_name_a_finding() -> None:
    assert {BY_SLUG[slug].severity for slug in ENDINGS} == {list(Severity)[-1]}

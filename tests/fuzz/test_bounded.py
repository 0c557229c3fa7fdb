"""A program whose call does not end is judged all the same, and alike everywhere."""

import os
import re
from collections.abc import Callable

import pytest

from engine.base.kernel import kernel_named
from fuzz import bounded
from fuzz.execute import Outcome, execute
from fuzz.forms.text import parse
from fuzz.lib.processes import TooLong
from fuzz.noted import Noted
from fuzz.showing import showing

MOVES = """\
mmap(0x3fe000, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x3fe000, 0x2000)
mremap(0x3fe000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x1fe000)
munmap(0x1fe000, 0x2000)
"""
KERNEL = kernel_named("linux-6.18")
CASE = parse(MOVES)
KEEPS_LOCKED = parse("""\
mmap(0x800000, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_LOCKED)
mremap(0x800000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, 0x810000)
""")
MEMORY_BYTES = 1 << 29

Plant = Callable[[Callable[[], object]], None]


@pytest.fixture
def plant(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Lets mremap do something else, whoever runs it."""

    def do(what: Callable[[], object]) -> None:
        monkeypatch.setattr("engine.move._move_table", lambda *_: what())
        monkeypatch.setattr(bounded, "SUSPICIOUS_SECONDS", 0.05)
        monkeypatch.setattr(bounded, "MOST_STEPS", 300_000)
        monkeypatch.setattr(bounded, "MEMORY_BYTES", MEMORY_BYTES)
        monkeypatch.setattr("fuzz.lib.processes.MEMORY_BYTES", MEMORY_BYTES)

    return do


def endless() -> None:
    while True:
        pass


def eater() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(1 << 20))


def glutton() -> None:
    bytearray(2 * MEMORY_BYTES)


def ended(outcome: Outcome) -> tuple[int, str, str]:
    """How many calls returned, which rule that breaks, and what is said of it."""
    assert outcome.ending is not None
    return len(outcome.results), outcome.ending.rule, outcome.ending.found


@pytest.mark.parametrize(
    ("what", "rule", "found"),
    [
        (endless, "timeout", "no end"),
        (eater, "memory", "no memory left"),
        (glutton, "memory", "no memory left"),
    ],
)
def test_a_call_that_does_not_end_is_a_violation(
    what: Callable[[], None], rule: str, found: str, plant: Plant
) -> None:
    plant(what)
    returned, broken, told = ended(bounded.run(CASE, KERNEL, stop=False))
    assert (returned, broken) == (2, rule)
    assert re.fullmatch(rf"{found} in \w+, engine/move\.py:\d+", told)


def test_what_takes_long_and_ends_is_as_it_is(plant: Plant) -> None:
    processes = set()

    def slow() -> bool:
        processes.add(os.getpid())
        sum(range(3_000_000))
        return False

    plant(slow)
    outcome = bounded.run(CASE, KERNEL, stop=False)
    assert outcome.ending is None
    assert len(outcome.results) == 4
    assert outcome.space.total_vm == 0
    assert processes == {os.getpid()}  # here it ran, suspected or not


def test_steps_decide_and_not_the_time(plant: Plant) -> None:
    """A program within the limit is never suspected for its steps, one beyond it always is."""

    def steps(count: int) -> Callable[[], bool]:
        def work() -> bool:
            for _ in range(count // 2):
                pass
            sum(range(8_000_000))  # one step, and suspicious on any machine
            return False

        return work

    for count, rule in ((200_000, None), (800_000, "timeout")):
        plant(steps(count))
        ending = bounded.run(CASE, KERNEL, stop=False).ending
        assert (ending and ending.rule) == rule


def test_what_was_read_apart_is_noted_here(plant: Plant) -> None:
    """A run is put down to known defects by what it has read, all the way to its end."""
    slow = True

    def slow_then_endless() -> bool:
        nonlocal slow
        while not slow:
            pass
        sum(range(8_000_000))  # suspected in here, where nobody counts
        slow = False
        return False

    plant(slow_then_endless)
    kernel = Noted(KERNEL)
    case = CASE.with_calls((*CASE.calls, *KEEPS_LOCKED.calls, *CASE.calls))
    assert ended(bounded.run(case, kernel, stop=False))[:2] == (8, "timeout")
    assert "dontunmap_counts_locked" in kernel.read


def test_rules_that_do_not_end_are_a_defect_of_ours(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(lambda: False)
    monkeypatch.setattr("fuzz.rules.judge.StateRules.check", lambda *_: endless())
    with pytest.raises(bounded.Unjudged, match="outside of the model"):
        bounded.apart(lambda: execute(CASE, KERNEL, stop=False).results, seconds=0.1)


def test_what_is_raised_apart_is_raised_here() -> None:
    def fail() -> None:
        raise KeyError("planted")

    with pytest.raises(KeyError, match="planted"):
        bounded.apart(fail)
    with pytest.raises(bounded.Unjudged, match="signal 9"):
        bounded.apart(lambda: os.kill(os.getpid(), 9))


def test_work_apart_can_be_ended(plant: Plant) -> None:
    plant(endless)

    class Enough(Exception):
        pass

    def stop() -> None:
        raise Enough

    with pytest.raises(Enough), bounded.ticking(stop):
        bounded.run(CASE, KERNEL, stop=False)


def test_who_is_watched_by_others_judges_nothing(
    plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late() -> None:
        raise TooLong

    plant(late)
    monkeypatch.setattr(bounded, "_within", [])
    bounded.watched_already()
    with pytest.raises(TooLong):
        showing(CASE, KERNEL)

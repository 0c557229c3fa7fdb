"""A state machine of Hypothesis, as its users write them: what one call has mapped, others use."""

from typing import Any, NoReturn

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from engine.base.geometry import Geometry
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MAP_SHARED,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    PROT_READ,
    PROT_WRITE,
)
from fuzz.contest.watch import Watch
from fuzz.contest.writer import MOST_CALLS, OTHERS, Writer

_SETTINGS = hypothesis.settings(
    max_examples=1 << 30,  # the trial ends before
    stateful_step_count=MOST_CALLS,
    phases=[Phase.generate],
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
_MOVING = (
    0,
    MREMAP_MAYMOVE,
    MREMAP_MAYMOVE | MREMAP_FIXED,
    MREMAP_MAYMOVE | MREMAP_FIXED,
    MREMAP_MAYMOVE | MREMAP_DONTUNMAP,
    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
)


class _Drawn:
    """Draws through Hypothesis."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data

    def integer(self, low: int, high: int) -> int:
        return self._data.draw(st.integers(low, high))


def machine(watch: Watch) -> type[RuleBasedStateMachine]:
    """The machine, each of whose examples is a program."""
    starts = st.integers(1, 8)  # slots
    beside = st.sampled_from((0, 0, 0, 1, 2, -1))  # pages
    few = st.integers(1, 5)  # pages
    slots = st.integers(1, 3)
    protections = st.sampled_from((PROT_READ | PROT_WRITE,) * 3 + (PROT_READ, 0))
    kinds = st.sampled_from((MAP_PRIVATE, MAP_PRIVATE, MAP_SHARED))

    class Moves(RuleBasedStateMachine):
        """mmap, touch and mremap know each other's ranges; the other calls come in between."""

        ranges: Bundle[tuple[int, int]] = Bundle("ranges")
        geometry: Geometry
        number = 0

        @initialize(number=st.integers(0, len(watch.geometries) - 1))
        def begin(self, number: int) -> None:
            self.number, self.geometry = number, watch.geometries[number]
            self.writer = Writer(_Nothing(), self.geometry)

        def _bytes(self, small: bool, pages: int, whole: int) -> int:
            return pages * self.geometry.page_bytes if small else whole * self.geometry.slot_bytes

        def _place(self, slot: int, page: int) -> int:
            return slot * self.geometry.slot_bytes + page * self.geometry.page_bytes

        @rule(
            target=ranges, slot=starts, page=beside, small=st.booleans(), pages=few, whole=slots,
            prot=protections, kind=kinds,
        )  # fmt: skip
        def mmap(
            self, slot: int, page: int, small: bool, pages: int, whole: int, prot: int, kind: int
        ) -> tuple[int, int]:
            start, length = self._place(slot, page), self._bytes(small, pages, whole)
            self.writer.call("mmap", start, length, prot, kind | MAP_ANONYMOUS | MAP_FIXED, -1, 0)
            return start, length

        @rule(where=ranges, pages=few, all_of_it=st.booleans())
        def touch(self, where: tuple[int, int], pages: int, all_of_it: bool) -> None:
            start, length = where
            size = length if all_of_it else min(pages * self.geometry.page_bytes, length)
            self.writer.call("touch", start, size)

        @rule(
            target=ranges, where=ranges, slot=starts, page=beside, flags=st.sampled_from(_MOVING),
            grows=st.integers(-1, 1), skips=st.integers(0, 2),
        )  # fmt: skip
        def mremap(
            self, where: tuple[int, int], slot: int, page: int, flags: int, grows: int, skips: int
        ) -> tuple[int, int]:
            start, length = where
            skipped = min(skips * self.geometry.page_bytes, length - self.geometry.page_bytes)
            old = length - skipped
            new = max(old + grows * self.geometry.page_bytes, self.geometry.page_bytes)
            to = self._place(slot, page)
            self.writer.call("mremap", start + skipped, old, new, flags, to)
            return to, new

        @rule(data=st.data(), name=st.sampled_from(OTHERS))
        def another(self, data: Any, name: str) -> None:
            self.writer.draw = _Drawn(data)
            self.writer.call(name)

        def teardown(self) -> None:
            if self.writer.case.calls:
                watch.run(self.writer.case, self.number)

    return Moves


class _Nothing:
    """Draws nothing: all operands are given."""

    def integer(self, low: int, high: int) -> int:
        raise AssertionError("an operand was not given")


def play(watch: Watch, seed: int) -> NoReturn:
    """Until the trial is over."""
    while True:  # once, unless Hypothesis believes to have seen all
        run_state_machine_as_test(hypothesis.seed(seed)(machine(watch)), settings=_SETTINGS)
        seed += 1 << 32

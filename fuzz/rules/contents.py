"""Contents of memory, which an oracle knows that shares nothing with the model."""

from collections.abc import Sequence

from engine.base.address import Range
from engine.base.violation import Violation
from engine.state.space import AddressSpace
from fuzz.case import Between, Call, Result
from fuzz.oracle.mismatch import Mismatch
from fuzz.oracle.oracle import Oracle
from fuzz.rules.rule import CONTENTS, HARM, Rule, elsewhere

ORACLE_CONTENTS = Rule(
    "O-01",
    "oracle-contents",
    "the contents of memory equal those of the independent oracle",
    "the oracle: a dictionary and a list of intervals",
    HARM,
)

elsewhere(CONTENTS, ORACLE_CONTENTS)


class Contents:
    """The oracle of one run, which is told of each call."""

    __slots__ = ("_oracle", "_space")

    def __init__(self, space: AddressSpace) -> None:
        geometry = space.geometry
        self._space = space
        self._oracle = Oracle(
            geometry.page_bytes,
            geometry.word_bits,
            geometry.slot_bytes,
            exec_only=geometry.exec_only_keys,
            whole_holes=lambda: not space.kernel.hugetlb_zeroes_parts,
            maps_refill=lambda: space.kernel.bpf_maps_fault,
        )

    def check(
        self, call: Call, result: Result, between: Sequence[Between] = (), *, looking: bool
    ) -> list[Violation]:
        """Tell it of a call and of what others did meanwhile; compare, contents when `looking`."""
        looked_at = self._space.contents() if looking else None
        mismatches = self._oracle.apply(call, result, looked_at, self._mapped, between)
        return [self._told(mismatch) for mismatch in mismatches]

    def _mapped(self) -> list[tuple[int, int]]:
        """What is mapped, as offsets into the arena."""
        base = self._space.arena.start
        return [(vma.start - base, vma.end - base) for vma in self._space.vmas]

    def _told(self, mismatch: Mismatch) -> Violation:
        page, base = self._space.geometry.page_bytes, self._space.arena.start
        start = base + mismatch.start_page * page
        return ORACLE_CONTENTS.broken(
            Range(start, start + mismatch.count * page),
            mismatch.told(mismatch.found),
            mismatch.told(mismatch.expected),
        )

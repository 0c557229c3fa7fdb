"""Contents of memory, which an oracle knows that shares nothing with the model."""

from collections.abc import Iterator

from engine.base.address import Range
from engine.base.violation import Violation
from engine.state.space import AddressSpace
from fuzz.case import Call, Result
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
        )

    def check(self, call: Call, result: Result, *, looking: bool) -> Iterator[Violation]:
        """Tell it of a call, and compare; contents only when `looking`."""
        space = self._space
        page, base = space.geometry.page_bytes, space.arena.start

        def mapped() -> list[tuple[int, int]]:
            return [(vma.start - base, vma.end - base) for vma in space.vmas]

        looked_at = space.contents() if looking else None
        for mismatch in self._oracle.apply(call, result, looked_at, mapped):
            start = base + mismatch.start_page * page
            yield ORACLE_CONTENTS.broken(
                Range(start, start + mismatch.count * page),
                f"{mismatch.kind} {mismatch.found}",
                str(mismatch.expected),
            )

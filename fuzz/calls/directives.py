"""Directives: what steers the calls that follow."""

from engine.base import failures, limits
from engine.state.space import AddressSpace
from fuzz.calls.arena import anywhere
from fuzz.calls.operand import Amount, Choice, Nth
from fuzz.calls.record import FLAGS, PROT, choice
from fuzz.calls.syscall import Does, Makes, Param, Syscall

FAILURES = {name: i for i, name in enumerate(failures.KINDS)}
FAILURE = Choice(
    meaning="kind of failure",
    names=FAILURES,
    others=False,
    high=len(FAILURES) - 1,
    ordinary=0,
    likely={
        FAILURES[failures.PAGETABLE]: 8,
        FAILURES[failures.VMA]: 4,
        FAILURES[failures.COMMIT]: 2,
        FAILURES[failures.MAPS]: 2,
        FAILURES[failures.HOOK]: 2,
    },
)
NTH = Nth(
    meaning="attempt",
    low=1,
    high=1 << 20,
    likely={1: 8, 2: 6, 3: 4, 4: 3, 5: 2, 6: 2, 7: 1, 8: 1, 9: 1, 12: 1, 16: 1},
)
LIMITS = {name: i for i, name in enumerate(limits.KINDS)}
LIMIT = Choice(
    meaning="limit",
    names=LIMITS,
    others=False,
    high=len(LIMITS) - 1,
    likely=dict.fromkeys(LIMITS.values(), 1),
)
# A limit on VMAs counts them, the others bytes: as few as a program makes.
AMOUNT = Amount(
    meaning="amount",
    counts=(4, 5, 6, 7, 8, 9, 10, 12, 16),
    slots=(1, 2, 3, 4, 6, 8),
    pages=(16, 64),
)


def _fail(space: AddressSpace, kind: int, nth: int) -> None:
    space.failures.arm(failures.KINDS[kind], nth)


def _limit(space: AddressSpace, kind: int, value: int) -> None:
    space.limits.set(limits.KINDS[kind], value)


FAIL = Syscall(
    number=21,
    name="@fail",
    params=(Param("kind", FAILURE), Param("nth", NTH)),
    model=_fail,
    made_by=Makes.MODEL,
    stays=anywhere,
    codes=range(195, 203),
    record=(choice(0, FLAGS), choice(1, PROT)),
)
LIMITED = Syscall(
    number=22,
    name="@limit",
    params=(Param("name", LIMIT), Param("value", AMOUNT)),
    model=_limit,
    made_by=Makes.MODEL,
    does=Does.BEGINS,
    stays=anywhere,
    codes=range(243, 246),
    record=(choice(0, FLAGS), choice(1, PROT)),
)

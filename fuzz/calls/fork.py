"""fork, and the end of the child."""

from engine.calls.fork import exit_child, fork
from fuzz.calls.arena import anywhere
from fuzz.calls.syscall import Makes, Syscall

FORK = Syscall(
    number=14,
    name="fork",
    params=(),
    model=fork,
    made_by=Makes.MODEL,
    stays=anywhere,
    codes=range(237, 240),
    record=(),
)
EXIT_CHILD = Syscall(
    number=15,
    name="exit_child",
    params=(),
    model=exit_child,
    made_by=Makes.MODEL,
    stays=anywhere,
    prepared_by="fork",
    codes=range(251, 253),
    record=(),
)

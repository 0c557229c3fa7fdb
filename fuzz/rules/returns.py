"""Every call returns: these rules say how one did not.

They are checked by whoever runs it (`fuzz.execute`), and name a finding only if nothing else is
broken: what was broken before says more.
"""

from collections.abc import Sequence
from traceback import format_exception_only, walk_tb
from types import FrameType

from engine.base.address import Range
from engine.base.violation import Violation
from engine.move import Move
from engine.state.space import AddressSpace
from fuzz.calls.actors import Actor
from fuzz.lib.processes import TooLong
from fuzz.rules.rule import CRASH, RETURN, Rule, elsewhere

EXCEPTION = Rule(
    "R-01",
    "exception",
    "no assertion of the model fails in a call, and nothing else is raised",
    "BUG_ON(), and what the model takes for granted",
    CRASH,
)

TIMEOUT = Rule(
    "R-02",
    "timeout",
    "a call ends: it does not execute more lines of the model than any has reason to",
    "fuzz.lib.steps.MOST_STEPS; the soft lockup detector",
    CRASH,
)

MEMORY = Rule(
    "R-03",
    "memory",
    "a call does not make the model take more memory than any has reason to",
    "fuzz.lib.processes.MEMORY_BYTES; the OOM killer",
    CRASH,
)

elsewhere(RETURN, EXCEPTION, TIMEOUT, MEMORY)

Frames = Sequence[tuple[FrameType, int]]  # with the line that each was at, the innermost last

# Those who call listeners; one who does something himself in the middle of a call is none.
_ANNOUNCING = (AddressSpace.announce.__code__, Move.announce.__code__, Actor.tell.__code__)
_ACTING = Actor.__call__.__code__

# What only a run can tell that counts (`fuzz.bounded`).
UNENDING = frozenset((TIMEOUT.slug, MEMORY.slug))
ENDINGS = frozenset(rule.slug for rule in (EXCEPTION, TIMEOUT, MEMORY))


def ending(error: BaseException, where: Range) -> Violation | None:
    """The rule that a call broke by ending with an error; None if it is not the call's.

    What listeners raise, rules and observers, is theirs.  But they, too, run out of time or memory
    when the call that tells them of points does not end.
    Arguments: `where` the arena, bytes.
    """
    frames = list(walk_tb(error.__traceback__))
    model = _without_listener(frames)
    if isinstance(error, TooLong):
        return TIMEOUT.broken(where, f"no end{_place(model)}", "a result")
    if isinstance(error, MemoryError):
        return MEMORY.broken(where, f"no memory left{_place(model)}", "a result")
    if model != frames:
        return None
    what = format_exception_only(error)[0].strip()
    return EXCEPTION.broken(where, f"{what}{_place(model)}", "a result")


def _without_listener(frames: Frames) -> Frames:
    """The frames up to the first listener that was called."""
    for index, (frame, _) in enumerate(frames, 1):
        acts = index < len(frames) and frames[index][0].f_code is _ACTING
        if frame.f_code in _ANNOUNCING and not acts:
            return frames[:index]
    return frames


def _place(frames: Frames) -> str:
    """Where in the engine that was: the innermost of its frames."""
    for frame, line in reversed(frames):
        module = frame.f_globals.get("__name__", "")
        if module.startswith("engine."):
            path = f"{module.replace('.', '/')}.py"
            return f" in {frame.f_code.co_name}, {path}:{line}"
    return ""

"""Run a case so that the run ends, even if a call of it does not.

Nothing is counted at first: programs run as fast as they do.  One that takes long, or much memory,
runs again in a process of its own, where the lines that its calls execute are counted and memory is
limited.  Only what that one shows counts, so that no verdict depends on how fast a machine is.
"""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from engine.base.kernel import Kernel
from engine.state.space import AddressSpace
from fuzz.case import Case, Result
from fuzz.execute import Found, Outcome, execute
from fuzz.lib.processes import MEMORY_BYTES, CpuLimit, TooLong, data_bytes, forked, limit_memory
from fuzz.lib.steps import StepLimit
from fuzz.noted import Noted
from fuzz.rules.returns import UNENDING

R = TypeVar("R")

# Lines of Python that all calls of a program may execute.  Those of a run execute some thousands.
MOST_STEPS = 50_000_000
# CPU time after which a program is suspected: no machine executes MOST_STEPS in less, so that
# whatever passes that limit is suspected everywhere.
SUSPICIOUS_SECONDS = 0.5
_APART_SECONDS = 60.0  # CPU time of a program whose steps are counted, which take six
_BACKSTOP_SECONDS = 3600.0


class Unjudged(Exception):
    """A program took too long, but not in its calls: rules or oracle did, a defect of ours."""


class _Ran(NamedTuple):
    """What a run showed, without the address space, and what it read of the kernel."""

    results: list[Result]
    page_tables: list[int]
    violations: list[Found]
    read: tuple[str, ...]


# Where it is not this module that suspects: how many steps a program may take; None: any number.
_within: list[int | None] = []
_ticks: list[Callable[[], None]] = [lambda: None]


def doubtful(outcome: Outcome) -> bool:
    """Did a call end for want of time or memory?  Only a run that counts can tell."""
    return outcome.ending is not None and outcome.ending.rule in UNENDING


def run(case: Case, kernel: Kernel, **how: Any) -> Outcome:
    """What `execute` shows; a call that does not end is a violation, see `fuzz.rules.returns`.

    Arguments: `how` as of `execute`; who watches may see a program begin anew.
    Returns: the outcome; its space is an empty one if there was none at the end.
    Errors raised: as of `execute`; Unjudged.
    """
    if _within:
        steps = None if _within[-1] is None else StepLimit(_within[-1])
        outcome = execute(case, kernel, steps=steps, **how)
        if steps is None and doubtful(outcome):
            raise TooLong
        return outcome
    with contextlib.suppress(TooLong), _suspecting():
        outcome = execute(case, kernel, **how)
        if not doubtful(outcome):
            return outcome

    def counted() -> _Ran:
        outcome = run(case, kernel, **how)
        read = kernel.read if isinstance(kernel, Noted) else ()
        return _Ran(outcome.results, outcome.page_tables, outcome.violations, read)

    ran = apart(counted)
    for name in ran.read:  # noted here, too
        getattr(kernel, name)
    outcome = Outcome(case, kernel, AddressSpace(kernel), *ran[:3])
    if outcome.ending is None:  # it takes long, but ends: here is its address space
        return execute(case, kernel, **how)
    return outcome


def apart(
    work: Callable[[], R],
    *,
    steps: int | None = None,
    memory: int | None = None,
    seconds: float = _APART_SECONDS,
) -> R:
    """Do some work in a process of its own, in which `run` counts.

    Arguments: `steps` how many a program may take there (None: MOST_STEPS); `memory` how many bytes
    it may take besides what is there (None: as `forked` says); `seconds` of CPU time, a backstop.
    Returns: what the work returns, pickled in between.
    Errors raised: what the work raises; what the function given to `ticking` does; Unjudged if the
    work takes longer, or its process is killed.
    """

    def counting(_: None) -> R | Exception:
        _within.append(steps or MOST_STEPS)
        if memory is not None:
            limit_memory(data_bytes() + memory)
        limit = CpuLimit(seconds)
        limit.begin()
        try:
            return work()
        except TooLong:
            return Unjudged(f"no end after {seconds:.0f} s of CPU time outside of the model")
        except Exception as error:
            return error

    (ended,) = forked([None], counting, jobs=1, seconds=_BACKSTOP_SECONDS, tick=_ticks[-1])
    if ended.how:
        raise Unjudged(f"the process that counts its steps ended: {ended.how}")
    if isinstance(ended.result, Exception):
        raise ended.result
    return ended.result  # type: ignore[return-value]  # None only if the work returns it


def watched_already() -> None:
    """From now on others limit what this process does: `run` is `execute`.

    They are to raise TooLong or MemoryError; then `run` raises TooLong, for it cannot judge.
    """
    _within.append(None)


@contextlib.contextmanager
def ticking(tick: Callable[[], None]) -> Iterator[None]:
    """While this lasts, `tick` is called twice a second while work is done `apart`.

    What it raises ends the work.
    """
    _ticks.append(tick)
    try:
        yield
    finally:
        _ticks.pop()


@contextlib.contextmanager
def _suspecting() -> Iterator[None]:
    """While this lasts, TooLong and MemoryError are raised before they harm."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are not for this one
        return
    before = limit_memory(MEMORY_BYTES)
    limit = CpuLimit(SUSPICIOUS_SECONDS, signal.ITIMER_VIRTUAL)
    limit.begin()
    try:
        yield
    finally:
        limit.end()
        limit_memory(before)

"""A new finding, as the parent sees to it: it is minimized, kept and told, and what it leads to."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.base.geometry import Geometry, geometry_named
from engine.base.kernel import Kernel
from fuzz import bounded
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.report import (
    harm_not_looked_for,
    not_minimized,
    told,
    told_harm,
    told_known,
    told_old,
    told_parting,
)
from fuzz.campaign.session import Seen, Session, marked
from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.forms.transpose import transposed
from fuzz.harm.search import is_harm, look_for_harm
from fuzz.lib.processes import MEMORY_BYTES
from fuzz.minimize.search import minimize
from fuzz.rules.returns import UNENDING
from fuzz.showing import Showing, expecting, showing
from fuzz.subjects.likeness import as_case

Breathe = Callable[[], None]  # sees to everything else while something takes long
ShowsOn = Callable[[Kernel], Callable[[Case], bool]]

# The limits of programs that are tried while one is minimized that does not end.  Both are the same
# part of the usual ones, so that time and memory run out in the same order.
_NARROW_STEPS = bounded.MOST_STEPS // 20
_NARROW_BYTES = MEMORY_BYTES // 20
_NARROW_SECONDS = 1800.0  # CPU time for all of them


class Interrupted(BaseException):
    """The run is to end; what was being minimized is kept as it was before.

    No `except Exception` holds it.
    """


@contextmanager
def doing(session: Session, what: str) -> Iterator[None]:
    """Let the status line say what."""
    session.progress.doing = what
    try:
        yield
    finally:
        session.progress.doing = ""


def investigate(session: Session, seen: Seen, crashes: Crashes, breathe: Breathe) -> None:
    """Minimize a finding of the model, keep it and tell it.

    `breathe` is called before every run.
    Errors raised: what `breathe` raises.
    """

    shows_on = _shows_on(session, seen.bucket, crashes, breathe)
    kernel = seen.kernel
    if not shows_on(kernel)(seen.case):
        if not seen.left:  # what an earlier run has found, rules or model may see otherwise now
            crashes.not_again(seen.bucket.name, session.path(seen.bucket))
        return
    with doing(session, f"minimizing {seen.bucket.name}"):
        minimal = (_minimal if _ends(session, seen) else _minimal_apart)(session, seen, shows_on)
    if minimal is None:
        session.say(not_minimized(session, seen))
        return
    case, geometry = minimal
    kernel = kernel.on(geometry)
    try:
        if session.like is not None:
            case = as_case(session.pair(kernel), case)
        else:
            case = expecting(case, dict.fromkeys([kernel.name, *session.kernels]))
    except Exception as error:
        crashes.while_minimizing(case, kernel.name, error)
    session.minimized(seen, marked(case))
    if seen.old:
        session.say(told_old(session, seen))
    elif session.like is not None:
        session.say(told_parting(session, seen, kernel))
    else:
        session.say((told_known if seen.bucket.defect else told)(session, seen, kernel))
    if session.like is None and not seen.bucket.defect:
        _look_for_harm(session, seen, kernel, crashes, breathe)


def _shows_on(
    session: Session, bucket: Bucket, crashes: Crashes | None, breathe: Breathe
) -> ShowsOn:
    """Whether a case shows the finding on a kernel; `crashes` None: they are not told."""

    def shows_on(kernel: Kernel) -> Callable[[Case], bool]:
        def same(case: Case) -> bool:
            breathe()
            try:
                if session.like is not None:
                    return session.pair(kernel).bucket(case) == bucket
                shown = showing(case, kernel, session.options.rules_after)
            except Exception as error:
                # A candidate on which the project itself fails is no simpler form of it.
                if crashes is not None:
                    crashes.while_minimizing(case, kernel.name, error)
                return False
            return shown.shows(bucket)

        return same

    return shows_on


def _ends(session: Session, seen: Seen) -> bool:
    """Does every call of a program end, and take no more memory than it should?"""
    shown = showing(seen.case, seen.kernel, session.options.rules_after)
    return not any(found.violation.rule in UNENDING for found in shown.violations)


def _minimal_apart(session: Session, seen: Seen, shows_on: ShowsOn) -> tuple[Case, Geometry] | None:
    """The same of a program that does not end: in a process of its own, with narrower limits.

    Returns: None if what passes these limits does not pass the usual ones, or in no time.
    """

    def work() -> tuple[Case, str]:
        quietly = _shows_on(session, seen.bucket, None, lambda: None)
        case, geometry = _minimal(session, seen, quietly)
        return case, geometry.name

    with contextlib.suppress(bounded.Unjudged, ValueError):  # not shown within narrower limits
        case, name = bounded.apart(
            work, steps=_NARROW_STEPS, memory=_NARROW_BYTES, seconds=_NARROW_SECONDS
        )
        geometry = geometry_named(name)
        if shows_on(seen.kernel.on(geometry))(case):
            return case, geometry
    return None


def _minimal(session: Session, seen: Seen, shows_on: ShowsOn) -> tuple[Case, Geometry]:
    """The minimal case of a finding, and the geometry that it is for."""
    kernel, budget = seen.kernel, session.options.minimize_budget
    case = minimize(seen.case, shows_on(kernel), kernel.geometry, budget=budget)
    if kernel.geometry != session.geometry:
        # Of use is a program for a machine: what smaller tables show mostly shows there.
        there = session.named(transposed(case, kernel.geometry, session.geometry))
        same = shows_on(kernel.on(session.geometry))
        if same(there):
            return minimize(there, same, session.geometry, budget=budget), session.geometry
    return case, kernel.geometry


def _look_for_harm(
    session: Session, seen: Seen, kernel: Kernel, crashes: Crashes, breathe: Breathe
) -> None:
    """If a finding shows no harm itself, look for what it leads to; keep that and tell it."""
    rules_after = session.options.rules_after

    def shows(case: Case, on: Kernel) -> Showing:
        breathe()
        try:
            return showing(case, on, rules_after)
        except Exception as error:
            crashes.while_minimizing(case, on.name, error)
            return Showing(case, on, (), (), ())

    if any(one.bucket == seen.bucket and is_harm(one) for one in shows(seen.case, kernel).findings):
        return
    try:
        with doing(session, f"looking for harm near {seen.bucket.name}"):
            harm = look_for_harm(seen.case, seen.bucket, kernel, shows=shows)
    except Interrupted:  # the finding is kept and told
        session.say(harm_not_looked_for(session, seen))
        return
    if harm is not None:
        case = expecting(harm.case, [kernel.name])
        session.leads_to(seen, case)
        session.say(told_harm(session, seen, case, harm.bucket, kernel))

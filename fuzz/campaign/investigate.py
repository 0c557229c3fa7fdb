"""A new finding, as the parent sees to it: it is minimized, kept and told, and what it leads to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.base.geometry import Geometry
from engine.base.kernel import Kernel
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.report import told, told_harm, told_known, told_parting
from fuzz.campaign.session import Seen, Session, marked
from fuzz.case import Case
from fuzz.forms.transpose import transposed
from fuzz.harm.search import is_harm, look_for_harm
from fuzz.minimize.search import minimize
from fuzz.showing import Showing, expecting, showing
from fuzz.subjects.likeness import as_case

Breathe = Callable[[], None]  # sees to everything else while something takes long


class Interrupted(Exception):
    """The run is to end; what was being minimized is kept as it was before."""


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

    def shows_on(kernel: Kernel) -> Callable[[Case], bool]:
        def same(case: Case) -> bool:
            breathe()
            try:
                if session.like is not None:
                    return session.pair(kernel).bucket(case) == seen.bucket
                shown = showing(case, kernel, session.options.rules_after)
            except Exception as error:
                # A candidate on which the project itself fails is no simpler form of it.
                crashes.while_minimizing(case, kernel.name, error)
                return False
            return shown.shows(seen.bucket)

        return same

    kernel = seen.kernel
    if not shows_on(kernel)(seen.case):
        crashes.not_again(seen.bucket.name, session.path(seen.bucket))
        return
    with doing(session, f"minimizing {seen.bucket.name}"):
        case, geometry = _minimal(session, seen, shows_on)
    kernel = kernel.on(geometry)
    try:
        if session.like is not None:
            case = as_case(session.pair(kernel), case)
        else:
            case = expecting(case, dict.fromkeys([kernel.name, *session.kernels]))
    except Exception as error:
        crashes.while_minimizing(case, kernel.name, error)
    session.minimized(seen, marked(case))
    if session.like is not None:
        session.say(told_parting(session, seen, kernel))
        return
    session.say((told_known if seen.bucket.defect else told)(session, seen, kernel))
    if not seen.bucket.defect:
        _look_for_harm(session, seen, kernel, crashes, breathe)


def _minimal(
    session: Session, seen: Seen, shows_on: Callable[[Kernel], Callable[[Case], bool]]
) -> tuple[Case, Geometry]:
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

    def shows(case: Case) -> Showing:
        breathe()
        try:
            return showing(case, kernel, rules_after)
        except Exception as error:
            crashes.while_minimizing(case, kernel.name, error)
            return Showing(case, kernel, (), (), ())

    if any(one.bucket == seen.bucket and is_harm(one) for one in shows(seen.case).findings):
        return
    with doing(session, f"looking for harm near {seen.bucket.name}"):
        harm = look_for_harm(seen.case, seen.bucket, shows)
    if harm is not None:
        case = expecting(harm.case, [kernel.name])
        session.leads_to(seen, case)
        session.say(told_harm(session, seen, case, harm.bucket, kernel))

"""New findings of the model, as the session sees to them: each is minimized, kept and told, and
what it leads to.
"""

import itertools
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from engine.base.geometry import geometry_named
from engine.base.kernel import Kernel
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.executor import Executor
from fuzz.campaign.inquiry import NOT_AGAIN, Answer, Inquiry
from fuzz.campaign.report import (
    harm_not_looked_for,
    not_minimized,
    told,
    told_harm,
    told_known,
    told_old,
    told_parting,
)
from fuzz.campaign.round import program
from fuzz.campaign.session import Seen, Session, marked
from fuzz.forms import text

Breathe = Callable[[], None]  # sees to everything else while something takes long


class Interrupted(BaseException):
    """The run is to end; what was being minimized is kept as it was before.

    No `except Exception` holds it.
    """

    def __str__(self) -> str:
        return "the run is to end"


@contextmanager
def doing(session: Session, what: str) -> Iterator[None]:
    """Let the status line say what."""
    before, session.progress.doing = session.progress.doing, what
    try:
        yield
    finally:
        session.progress.doing = before


class Investigations:
    """What is found out about the findings of a run, by inquiries of an executor.

    Those that nobody knows come first, as the session's queue has them; a finding stays there until
    it is minimal.  Harm is looked for after that.
    """

    def __init__(self, session: Session, crashes: Crashes, executor: Executor) -> None:
        self._session = session
        self._crashes = crashes
        self._executor = executor
        self._under_way: dict[str, tuple[Inquiry, Seen]] = {}
        self._harmless: deque[tuple[Seen, Kernel]] = deque()  # to look for harm near them
        self._run = uuid.uuid4().hex[:12]
        self._numbers = itertools.count()

    @property
    def busy(self) -> bool:
        """Is there something under way, or left to do?"""
        return bool(self._under_way or self._harmless or next(self._waiting(), None))

    def begin(self) -> None:
        """Begin what there is room for."""
        while len(self._under_way) < self._executor.helpers and (inquiry := self._next()):
            self._executor.begin(inquiry)
        self._session.progress.minimizing = self._told()

    def take(self, answer: Answer) -> None:
        """Take in an answer; one that comes twice counts once."""
        inquiry, seen = self._under_way.pop(answer.inquiry, (None, None))
        if inquiry is None or seen is None:
            return
        for case, kernel, why in answer.failed:
            self._crashes.while_minimizing(text.parse(case), kernel, why)
        if inquiry.about == "harm":
            self._harm(seen, answer)
        else:
            self._session.queue.remove(seen)
            self._minimal(seen, answer)

    def cut_short(self) -> None:
        """The end of the run: tell what was not done."""
        session = self._session
        for seen in session.queue:
            session.say(not_minimized(session, seen))
        searches = [seen for one, seen in self._under_way.values() if one.about == "harm"]
        for seen in (*searches, *(seen for seen, _ in self._harmless)):
            session.say(harm_not_looked_for(session, seen))

    def _waiting(self) -> Iterator[Seen]:
        """The findings that are to be minimized and are not yet; those of machines are not ours."""
        under_way = [seen for _, seen in self._under_way.values()]
        for seen in self._session.queue:
            if seen.divergence is None and seen not in under_way:
                yield seen

    def _next(self) -> Inquiry | None:
        """What is to be asked next; it is under way from now on."""
        waiting = next(self._waiting(), None)
        if waiting is not None and not (waiting.bucket.defect and self._harmless):
            return self._inquiry(waiting, waiting.kernel, "minimal")
        if self._harmless:
            return self._inquiry(*self._harmless.popleft(), "harm")
        return None

    def _inquiry(self, seen: Seen, kernel: Kernel, about: str) -> Inquiry:
        session = self._session
        inquiry = Inquiry(
            id=f"{self._run}-{next(self._numbers)}",
            about="harm" if about == "harm" else "minimal",
            bucket=seen.bucket,
            kernel=kernel.name,
            geometry=kernel.geometry.name,
            case=text.dump(seen.case),
            kernels=tuple(session.kernels),
            target=session.geometry.name,
            usual=session.usual.name,
            like=None if session.like is None else session.like.name,
            rules_after=session.options.rules_after,
            budget=session.options.minimize_budget,
            program=program(),
        )
        self._under_way[inquiry.id] = (inquiry, seen)
        return inquiry

    def _told(self) -> str:
        """For the status line."""
        if not self._under_way:
            return ""
        inquiry, seen = next(iter(self._under_way.values()))
        what = "looking for harm near" if inquiry.about == "harm" else "minimizing"
        others = len(self._under_way) - 1
        return f"{what} {seen.bucket.name}" + (f" and {others} more" if others else "")

    def _minimal(self, seen: Seen, answer: Answer) -> None:
        """Keep and tell a minimal case."""
        session = self._session
        if answer.why == NOT_AGAIN:
            if not seen.left:  # what an earlier run has found, rules or model may see otherwise now
                self._crashes.not_again(seen.bucket.name, session.path(seen.bucket))
            return
        if answer.case is None:
            session.say(not_minimized(session, seen))
            return
        kernel = seen.kernel.on(geometry_named(answer.geometry))
        session.minimized(seen, marked(text.parse(answer.case)))
        if seen.old:
            session.say(told_old(session, seen))
        elif session.like is not None:
            session.say(told_parting(session, seen, kernel))
        else:
            session.say((told_known if seen.bucket.defect else told)(session, seen, kernel))
        if session.like is None and not seen.bucket.defect:
            self._harmless.append((seen, kernel))

    def _harm(self, seen: Seen, answer: Answer) -> None:
        """Keep and tell what a finding leads to."""
        session = self._session
        if answer.case is None:
            return
        kernel = seen.kernel.on(geometry_named(answer.geometry))
        case = text.parse(answer.case)
        session.leads_to(seen, case)
        session.say(told_harm(session, seen, case, answer.bucket, kernel))

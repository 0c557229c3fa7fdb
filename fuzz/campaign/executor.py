"""Who does the tasks of a session: processes of this machine (`fuzz.campaign.local`), or others.

A session decides what is to be done and takes in what comes back; it alone writes the working
directory.  It asks its executor to `begin` tasks and hears their reports; how a task gets to where
it is done, and what to do about machines that die, is the executor's affair:

- A round that an executor has begun ends with a report whose `end` is set, whatever happens to
  whoever does it, even if that is all there is to report (`Report(id, program, end=End(why, …))`);
  if it is lost with whoever did it, `End.lost` is true.  It may be done again by another worker,
  with the same id: the session counts the first end only.
- Of a round the session may hear as often as there is something new, or once.
- An inquiry has one answer, in any case (`Answer.none(inquiry, why)`).
- What comes from outside goes through `Report.parsed` and `Answer.parsed`; what these refuse ends
  its task with the reason.
- A session gives out as many rounds as there are `places`, and as many inquiries as there are
  `helpers`, and looks at both again before each one, so they may come and go.
"""

from collections.abc import Sequence
from typing import Protocol

from fuzz.campaign.inquiry import Answer, Inquiry
from fuzz.campaign.round import Report, Round


class Executor(Protocol):
    """Does tasks.

    `places` are how many rounds can be under way at a time, `helpers` how many inquiries beside
    them; at 0 the session waits.
    `round_seconds` is how long a round should take.  `remote` is true where rounds do not see the
    working directory: they are given a sample of the corpus, and report the inputs that they add;
    else they read and write the corpus themselves.  `over` says why nothing can be done any more;
    it is empty as long as something can.  `standing` is what the status line says of those who do
    the tasks, or empty.
    """

    remote: bool

    @property
    def round_seconds(self) -> float:
        """See above."""

    @property
    def places(self) -> int:
        """See above."""

    @property
    def helpers(self) -> int:
        """See above."""

    @property
    def over(self) -> str:
        """See above."""

    @property
    def standing(self) -> str:
        """See above."""

    def begin(self, task: Round | Inquiry) -> None:
        """Let something be done."""

    def heard(self, timeout: float) -> Sequence[Report | Answer]:
        """What has come in since the last time; waits for something, so many seconds at most."""

    def news(self) -> Sequence[str]:
        """What people want to know of those who do the tasks, since the last time."""

    def stop(self) -> None:
        """Ask the rounds to end; called again and again, until none is under way."""

    def kill(self) -> None:
        """End everything at once; rounds still report their end."""

    def close(self) -> None:
        """End inquiries, wait for rounds, which are about to end, and let go of everything."""


def parted(told: Sequence[Report | Answer]) -> tuple[list[Report], list[Answer]]:
    """What was heard, by kind."""
    reports = [one for one in told if isinstance(one, Report)]
    return reports, [one for one in told if isinstance(one, Answer)]

"""One of the fuzzing processes of a run: its flags, what it has counted, what it died of."""

import signal
from collections.abc import Sequence
from typing import Any, NamedTuple

from fuzz.campaign.child import LIBFUZZER, TOLD_SECONDS, Child, Setting
from fuzz.campaign.feedback import FED
from fuzz.campaign.session import Session
from fuzz.forms import wire
from fuzz.lib.lines import indented, short, tail

_STATUS = {
    70: "an input took too long",
    71: "it ran out of memory",
    77: "an exception, or a signal",
    72: "asked to end",
}
_INTERRUPTED = 72
# What nobody sends himself; SIGKILL is what the kernel sends who takes the last memory, too.
_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class Failure(NamedTuple):
    """Why a fuzzing process died.

    `details` are lines to show; `outside` is true if somebody killed it, else it is a defect of
    this project.
    """

    why: str
    details: str
    outside: bool = False


class Worker:
    """A fuzzing process, and what it has told.

    All workers of a run write into one corpus, which libFuzzer reads when it begins only; each has
    a seed and a log of its own, by its number from 0.
    """

    def __init__(
        self,
        session: Session,
        longest_seed: int,
        number: int = 0,
        runs: int | None = None,
    ) -> None:
        """Start it.

        Arguments: `longest_seed` are bytes; after `runs` executions it ends.
        """
        options = session.options
        self.seed = session.seed + number
        self.log = session.workdir / (f"libfuzzer-{number}.log" if number else "libfuzzer.log")
        self.seen_to = False  # its end was
        self._stats: dict[int, dict[str, Any]] = {}  # the last one of each process: -fork has many
        setting = Setting(
            kernels=list(session.kernels),
            geometries=[geometry.name for geometry in session.geometries],
            calls=sorted(session.calls),
            max_calls=options.max_calls,
            runs=runs or 0,
            cells=options.cells,
            fed=FED,
            tell_new=bool(options.against),
            rules_after=options.rules_after,
            like=options.like or "",
        )
        flags = [
            f"-seed={self.seed}",
            # Longer inputs decode to the same; but libFuzzer would cut a longer seed.
            f"-max_len={max(wire.WIDTH * options.max_calls + 1, longest_seed)}",
            f"-artifact_prefix={session.crashes}/",
            *LIBFUZZER,
            *((f"-timeout={TOLD_SECONDS}",) if options.against else ()),
            "-print_final_stats=1",
        ]
        if runs is not None:
            flags.append(f"-runs={runs}")
        # libFuzzer heeds the last one of equal flags, so those of the user win.
        flags += [*options.libfuzzer, str(session.corpus), str(session.seeds)]
        self.child = Child(setting, flags, self.log)

    def events(self) -> list[dict[str, Any]]:
        """What it has reported since the last time; see `fuzz.campaign.harness`."""
        events = self.child.events()
        for event in events:
            if event["event"] == "stats":
                self._stats[event["pid"]] = event
        return events

    @property
    def execs(self) -> int:
        """Executions so far."""
        return sum(stats["execs"] for stats in self._stats.values())

    @property
    def cells(self) -> int:
        """States seen so far."""
        return max((stats["cells"] for stats in self._stats.values()), default=0)

    def all_execs(self) -> int:
        """Executions once it has ended, for the last of which it may not have spoken itself."""
        return max(self.execs, _executed(tail(self.log).splitlines()))

    def failure(self, status: int, asked: bool) -> Failure | None:
        """What it died of; None if it ended as it should.

        Arguments: its exit `status`, and whether it was `asked` to end.
        """
        if asked or status == 0 or self.child.killed:
            return None
        why, outside = _STATUS.get(status, f"exit status {status}"), status == _INTERRUPTED
        if status < 0:
            number = signal.Signals(-status)
            why, outside = f"killed by {number.name}", number in _FROM_OUTSIDE
        return Failure(why, f"The end of {short(self.log)}:\n{indented(tail(self.log))}", outside)


def _executed(log: Sequence[str]) -> int:
    """Executions as libFuzzer counted them, or 0 if it could not say."""
    prefix = "stat::number_of_executed_units:"
    found = [line for line in log if line.startswith(prefix)]
    return int(found[-1].split()[-1]) if found else 0

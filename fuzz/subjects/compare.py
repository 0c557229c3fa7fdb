"""Compares the model with what a real kernel did: a whole file of recordings, class by class."""

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from engine.base.geometry import Geometry
from fuzz.case import Case
from fuzz.lib.exits import BAD_INPUT, FINE, INTERRUPTED, SURPRISES
from fuzz.lib.status import Fields, StatusLine
from fuzz.minimize.search import minimize
from fuzz.minimize.simplicity import simplicity
from fuzz.subjects.against import Against
from fuzz.subjects.beside import told_left_out
from fuzz.subjects.difference import Kind, difference, differing, parting, shared, told
from fuzz.subjects.model import Model
from fuzz.subjects.observe import FIELDS, OPTIONAL
from fuzz.subjects.recordings import Recording, TruthError, recordings
from fuzz.subjects.subject import Observation, Subject
from fuzz.subjects.tally import Tally

_MINIMIZE_BUDGET = 2_000  # runs on the machine


@dataclass(slots=True)
class Disagreement:
    """A class of disagreements: how many programs, and the simplest of them."""

    programs: int
    recording: Recording
    modelled: Observation


@dataclass(slots=True)
class Comparison:
    """What comparing recordings has shown so far.

    `shared` counts the programs in which both sides have a field, `agreeing_fields` those in which
    it agrees; `lonely` those in which one side has it, and which.  `calls` counts the calls whose
    results and page tables agree.
    """

    programs: int = 0
    shared: Counter[str] = field(default_factory=Counter)
    agreeing_fields: Counter[str] = field(default_factory=Counter)
    lonely: Counter[tuple[str, str]] = field(default_factory=Counter)
    calls: Tally = field(default_factory=Tally)
    kinds: dict[Kind, Disagreement] = field(default_factory=dict)
    started: float = field(default_factory=time.monotonic)

    @property
    def differing(self) -> int:
        """Programs that do not agree in all fields."""
        return sum(kind.programs for kind in self.kinds.values())

    def add(self, recording: Recording, found: Observation) -> None:
        """Count one program."""
        case, observed = recording
        self.programs += 1
        fields = shared(observed, found)
        different = differing(observed, found)
        agreeing = [name for name in fields if name not in different]
        self.shared.update(fields)
        self.agreeing_fields.update(agreeing)
        for side, has in (("recorded", observed), ("the model's", found)):
            alone = [name for name in OPTIONAL if has.get(name) is not None and name not in fields]
            self.lonely.update((name, side) for name in alone)
        if not different and "crash" not in found:
            self.calls.add(case, None)
            return
        differs = difference(case, observed, found)
        if "crash" not in found:
            self.calls.add(case, parting(observed, found))
        if differs is None:
            return
        known = self.kinds.get(differs.kind)
        if known is None:
            self.kinds[differs.kind] = Disagreement(1, recording, found)
            return
        known.programs += 1
        if simplicity(case) < simplicity(known.recording.case):
            known.recording, known.modelled = recording, found

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return max(time.monotonic() - self.started, 1e-9)

    def fields(self) -> Fields:
        """For the status line."""
        return [
            (f"{self.programs} programs", ""),
            (f"{self.programs / self.seconds:.0f}/s", ""),
            (f"{self.differing} differ", "alarm" if self.kinds else ""),
        ]

    def table(self) -> str:
        """How many agree, by field and by call."""
        rows: list[tuple[object, ...]] = [("field", "agree", "of")]
        rows += (
            (name, self.agreeing_fields[name], self.shared[name])
            for name in (*FIELDS, *OPTIONAL)
            if self.shared[name] or name in FIELDS
        )
        rows.append(("call", "agree", "of"))
        rows += self.calls.rows()
        lines = [f"{name:<14}{agree:>9}{of:>9}" for name, agree, of in rows]
        lines += (
            f"not compared: {name}, {side} alone, in {number} programs"
            for (name, side), number in self.lonely.items()
        )
        return "\n".join(lines)


def compare(
    path: Path,
    subject: Subject,
    *,
    machine: Callable[[], Against | None] = lambda: None,
) -> int:
    """Run a subject, the model mostly, on all programs of recordings; print how they compare.

    Arguments: `machine` is asked, if anything differs, for a machine with the recorded kernel
    beside the model; with it the simplest program of each class is minimized.
    Returns: 0 all agree; 1 some differ; 2 a bad line, after which nothing was read; 130 Ctrl-C.
    Errors raised: OSError; SubjectError if the subject cannot go on.
    """
    comparison, line = Comparison(), StatusLine(sys.stderr)
    status, problem = FINE, ""
    wrong: list[str] = []  # the line that ends the file, if one does
    ahead: deque[Recording] = deque()
    left_out: Counter[str] = Counter()

    def cases() -> Iterator[Case]:
        """The programs that the subject can run, as recorded; those before a bad line count."""
        try:
            for recording in recordings(path):
                if missing := subject.able.left_out(recording.case):
                    left_out.update(missing)
                    continue
                ahead.append(recording)
                yield recording.case
        except TruthError as error:
            wrong.append(str(error))

    try:
        for found in subject.run(cases()):
            comparison.add(ahead.popleft(), found)
            line.update(comparison)
    except KeyboardInterrupt:
        status, problem = INTERRUPTED, "interrupted"
    if wrong:
        status, problem = BAD_INPUT, wrong[0]
    line.clear()
    is_model = isinstance(subject, Model)
    agree = comparison.programs - comparison.differing
    print(
        f"{path}, {'model ' * is_model}{subject.name} on {subject.geometry.name}: "
        f"{agree} of {comparison.programs} programs agree ({comparison.seconds:.1f} s)"
    )
    if comparison.programs:
        print(comparison.table())
    if left_out:
        print(f"left out for what is not there: {told_left_out(left_out)}")
    ordered = sorted(comparison.kinds.items(), key=lambda item: (-item[1].programs, item[0]))
    pair = machine() if ordered and status != INTERRUPTED else None
    for kind, disagreement in ordered:
        n = disagreement.programs
        print(f"\n{kind}: {n} program{'' if n == 1 else 's'}")
        name = "model" if is_model else subject.name
        print(_example(kind, disagreement, subject.geometry, pair, name))
    if problem:
        compared = f"{comparison.programs} programs before that were compared"
        print(f"pmdfuzz compare: {problem}; {compared}", file=sys.stderr)
        return status
    return SURPRISES if comparison.kinds else FINE


def _example(
    kind: Kind, disagreement: Disagreement, geometry: Geometry, pair: Against | None, name: str
) -> str:
    """The simplest program of a class, minimized if that is possible."""
    case, observed = disagreement.recording
    title, page_bytes = f"recorded as {observed['id']}", geometry.page_bytes
    if pair is not None:

        def same(candidate: Case) -> bool:
            differs = difference(candidate, *pair.both(candidate))
            return differs is not None and differs.kind == kind

        here, _ = pair.both(case)
        if all(here.get(name) == observed[name] for name in FIELDS) and same(case):
            small = minimize(case, same, geometry, budget=_MINIMIZE_BUDGET)
            shown = told(small, *pair.both(small), "machine", page_bytes=page_bytes)
            return f"{title}, minimized on this machine:\n{shown}"
        title += "; not minimized: this machine does something else"
    shown = told(case, observed, disagreement.modelled, "recorded", name, page_bytes)
    return f"{title}:\n{shown}"

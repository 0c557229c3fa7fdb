"""`pmdfuzz check`: random programs on a subject and on its model, side by side.

Half of the programs come from random bytes, half from mutations of the project's own cases; the
byte form turns either into programs that make boundaries likely.  Or they are made to a plan, if
they are to be about one call (`planned`).  Every class of divergence is
minimized on the machine itself and kept as a case that asserts what the machine did.
"""

import contextlib
import random
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from engine.base.geometry import Geometry
from fuzz.case import Case, CaseError
from fuzz.defects import known
from fuzz.forms import text, wire
from fuzz.inputs.inputs import PLANS
from fuzz.lib.command import command
from fuzz.lib.exits import BAD_INPUT, FINE, STOPPED, SURPRISES
from fuzz.lib.files import WriteError, write_atomic
from fuzz.lib.lines import indented
from fuzz.lib.signals import Stop, stopping
from fuzz.lib.status import Fields, StatusLine, count, duration
from fuzz.subjects.against import Against, Divergence
from fuzz.subjects.baseline import Baseline, Seen
from fuzz.subjects.beside import beside_model, told_left_out
from fuzz.subjects.difference import Kind
from fuzz.subjects.host import GEOMETRY, WITH_KEYS
from fuzz.subjects.subject import Abilities, SubjectError
from fuzz.subjects.tally import Tally

DIVERGENCES = "divergences"  # directory in the working directory
DEFAULT_CASES = 10_000
_RECORDS = (2, 12)  # of a random program
_MINIMIZE_BUDGET = 2_000  # runs


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What to check: `cases` programs made from `seed`.

    None: as many as usual, and chosen at random, and shown; with a baseline as there.
    `on` names the subject, `kernel` the model and `geometry` that of both (see `beside_model`);
    `sources` are cases to mutate; `time_limit` seconds a program may take; `baseline` is a file of
    what an earlier check has shown, written if there is none; `jobs` subjects work side by side;
    `about` names a call that all programs are to make, which are made to a plan then.
    """

    workdir: Path
    cases: int | None = None
    seed: int | None = None
    kernel: str | None = None
    geometry: str | None = None
    on: str = "host"
    sources: Sequence[Path] = ()
    time_limit: float = 10.0
    baseline: Path | None = None
    jobs: int = 1
    about: str | None = None


@dataclass(frozen=True, slots=True)
class _Usual:
    """What is run without a baseline."""

    cases: int = DEFAULT_CASES
    seed: int = field(default_factory=lambda: random.randrange(1, 1 << 31))


@dataclass(slots=True)
class _Standing:
    """Where a check stands; see fuzz.lib.status."""

    wanted: int
    done: int = 0
    diverged: int = 0
    machine_seconds: float = 0.0
    model_seconds: float = 0.0
    kinds: Counter[Kind] = field(default_factory=Counter)
    calls: Tally = field(default_factory=Tally)
    started: float = field(default_factory=time.monotonic)
    doing: str = ""

    def fields(self) -> Fields:
        """For the status line."""
        seconds = time.monotonic() - self.started
        shown = [
            (duration(seconds), "dim"),
            (f"{self.done} of {self.wanted} programs", ""),
            (f"machine {_rate(self.done, self.machine_seconds)}", ""),
            (f"model {_rate(self.done, self.model_seconds)}", ""),
            (f"{self.diverged} diverge", "alarm" if self.diverged else ""),
        ]
        return [*shown, (self.doing, "")] if self.doing else shown


def check(options: CheckOptions) -> int:
    """Run the check and print what it shows.

    Returns: 0 no divergence; 1 divergences, with a baseline new classes of these; 2 the machine was
    lost on the way; 128 and more: stopped by a signal.
    Errors raised: SubjectError before the first program, UnknownName, WriteError, BaselineError.
    """
    with contextlib.ExitStack() as stack:

        def another(jobs: int = 1) -> Against:
            return stack.enter_context(
                beside_model(
                    options.kernel,
                    options.geometry,
                    on=options.on,
                    time_limit=options.time_limit,
                    jobs=jobs,
                )
            )

        return _Check(options, another(options.jobs), another).run()


def check_cases(
    cases: Iterable[tuple[str, Case]],
    kernel: str | None,
    geometry: str | None = None,
    on: str = "host",
    *,
    all_of_them: bool = True,
) -> int:
    """Run cases on a subject and on the model of its kernel, and print how they compare.

    Arguments: `all_of_them` false: those that cannot be run there are counted, and no more.
    Returns: 0 no divergence; 1 divergences; 2 there are cases that cannot be run there.
    Errors raised: SubjectError, UnknownName, and what `cases` raises.
    """
    total = agreeing = refused = 0
    left_out: Counter[str] = Counter()
    with beside_model(kernel, geometry, on=on) as pair:
        for name, case in cases:
            if why := pair.subject.refusal(case):
                if not all_of_them:
                    left_out[why] += 1
                    continue
                print(f"pmdfuzz check: {name}: not run: {why}", file=sys.stderr)
                refused += 1
                continue
            try:
                found = pair.divergence(case)
            except SubjectError as error:
                raise SubjectError(f"{name}: {error}\n{total} programs ran before it") from None
            if found is None and pair.not_compared:
                left_out[pair.not_compared] += 1
                continue
            total += 1
            if found is None:
                agreeing += 1
                continue
            found = pair.earliest(found)
            print(f"{name}: {found.kind}\n{indented(found.told())}")
        does = f"{pair.subject.name} does what {pair.model.name} does"
        if total:
            print(f"{agreeing} of {total} programs: {does}")
    for why, number in left_out.most_common():
        print(f"left out: {number:>4}  {why}")
    if refused or not total:
        return BAD_INPUT
    return FINE if agreeing == total else SURPRISES


def generated(
    sources: Sequence[bytes],
    codec: wire.Codec,
    able: Abilities,
    seed: int,
    left_out: Counter[str] | None = None,
) -> Iterator[Case]:
    """Programs that can be run, without end, the same for equal arguments; none is empty.

    Arguments: `left_out` counts what others needed that is not there, by name.
    """
    rng = random.Random(seed)
    while True:
        if sources and rng.random() < 0.5:
            data = _mutated(rng, sources)
        else:
            data = rng.randbytes(wire.WIDTH * rng.randint(*_RECORDS))
        made = codec.decode(data)
        case = able.runnable(made)
        if case.calls:
            yield case
        elif left_out is not None:
            left_out.update(able.missing(made))


def planned(geometry: Geometry, able: Abilities, seed: int, about: str) -> Iterator[Case]:
    """Programs made to a plan that make the call `about`, without end; the same for equal seeds.

    Calls that the subject does not have are left out of them.
    """
    rng = random.Random(seed)
    while True:
        made = rng.choice(PLANS)(random.Random(rng.random()), geometry)
        case = made.with_calls(call for call in made.calls if call.name in able.calls)
        if any(call.name == about for call in able.runnable(case).calls):
            yield able.runnable(case)


def _mutated(rng: random.Random, sources: Sequence[bytes]) -> bytes:
    """One of the sources with a few bytes, or records, changed, added, taken out or joined."""
    width = wire.WIDTH
    data = bytearray(rng.choice(sources))
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) // width + 1) * width  # a record, or the end
        match rng.randrange(5):
            case 0 | 1 if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
            case 2:
                data[at:at] = rng.randbytes(width)
            case 3 if len(data) > width:
                del data[at : at + width]
            case _:
                other = rng.choice(sources)
                data[at:] = other[rng.randrange(len(other) // width + 1) * width :]
    return bytes(data[: width * wire.MAX_CALLS])


class _Check:
    """One check."""

    def __init__(
        self, options: CheckOptions, pair: Against, another: Callable[[], Against]
    ) -> None:
        self.options = options
        self.pair = pair
        self._another = another
        self.left_out: Counter[str] = Counter()
        self.known: Counter[tuple[str, str]] = Counter()  # defects, by what the kernel reports
        self.directory = options.workdir / DIVERGENCES
        self.line = StatusLine(sys.stderr)
        self.kept: dict[Kind, Path] = {}
        self.simplest: dict[Kind, Case] = {}
        known = options.baseline is not None and options.baseline.exists()
        self.before = Baseline.load(options.baseline) if options.baseline and known else None
        usual = self.before or _Usual()
        self.seed = usual.seed if options.seed is None else options.seed
        self.cases = usual.cases if options.cases is None else options.cases
        self.standing = _Standing(self.cases)

    @cached_property
    def minimizer(self) -> Against:
        """Another of the same, so that minimizing does not get between programs under way."""
        return self._another()

    def run(self) -> int:
        """The whole check.  Returns: the exit status."""
        geometry, able = self.pair.model.geometry, self.pair.subject.able
        codec = wire.codec(geometry, able.calls)
        sources = [wire.encode(case, geometry) for case in self._sources()]
        sources = [data for data in sources if data]
        if about := self.options.about:
            programs = planned(geometry, able, self.seed, about)
        else:
            programs = generated(sources, codec, able, self.seed, self.left_out)
        self._say(
            f"{self.pair.subject.name} {_ground(geometry)} beside {self.pair.model.name}, "
            f"{self.cases} programs, seed {self.seed}, {len(sources)} cases to mutate"
        )
        for line in self.pair.told():
            self._say(line)
        if lacks := [name for name in able.lacks if name not in self.pair.unknown]:
            self._say(f"it has no {', '.join(lacks)}")
        status = FINE
        try:
            with stopping():
                self._compare(programs)
        except Stop as stop:
            status = STOPPED + stop.number
        except SubjectError as error:
            status = BAD_INPUT
            self.line.write(f"pmdfuzz check: the machine is lost: {error}", sys.stderr)
        self.line.clear()
        self._say(self._summary(status > STOPPED))
        if self.options.baseline is not None and status == FINE:
            return self._beside_baseline(self.options.baseline)
        return status or (SURPRISES if self.standing.diverged else FINE)

    def _beside_baseline(self, path: Path) -> int:
        """Tell what is otherwise than in the baseline, or make it.  Returns: the exit status."""
        standing, pair = self.standing, self.pair
        now = Baseline(
            implementation=pair.subject.implementation,
            model=pair.model.name,
            geometry=pair.model.geometry.name,
            seed=self.seed,
            cases=standing.done,
            agree=standing.done - standing.diverged,
            unknown=list(pair.unknown),
            calls={name: (agree, of) for name, agree, of in standing.calls.rows()},
            kinds={
                str(kind): Seen(times, text.dump(self.simplest[kind]).splitlines())
                for kind, times in standing.kinds.most_common()
            },
        )
        if self.before is None:
            now.save(path)
            self._say(f"written as a baseline: {path}")
            return FINE
        changes = list(now.told(self.before))
        self._say("\n".join(changes) or "as the baseline")
        return SURPRISES if now.worse(self.before) else FINE

    def _sources(self) -> Iterator[Case]:
        """The cases to mutate; files that are none, or of another geometry, are left out."""
        for path in self.options.sources:
            try:
                case = text.load(path)
            except CaseError as error:
                self._say(f"skipped: {error}")
                continue
            if case.geometry in (None, self.pair.model.geometry.name):
                yield case

    def _compare(self, programs: Iterator[Case]) -> None:
        """Let machine and model run programs; the machine is some programs ahead."""
        ahead: deque[Case] = deque()

        def noted() -> Iterator[Case]:
            for _, case in zip(range(self.cases), programs, strict=False):
                ahead.append(self.pair.runnable(case))
                yield ahead[-1]

        standing, machine = self.standing, self.pair.subject
        for observed in machine.run(noted()):
            case = ahead.popleft()
            started = time.perf_counter()
            found = self.pair.judge(case, observed)
            standing.model_seconds += time.perf_counter() - started
            standing.machine_seconds = machine.seconds
            standing.done += 1
            if found is None and self.pair.not_compared:
                self.left_out[self.pair.not_compared] += 1
            elif found is None:
                standing.calls.add(case, None)
            elif found.defect:
                self.known[found.defect, found.kind.detail] += 1
            else:
                standing.diverged += 1
                self._investigate(found)
            self.line.update(standing)

    def _investigate(self, found: Divergence) -> None:
        """Find the class of a divergence; minimize and keep the first of each."""
        found = self.minimizer.earliest(found)
        self.standing.calls.add(found.case, found.difference.call)
        kinds = self.standing.kinds
        kinds[found.kind] += 1
        if kinds[found.kind] > 1:
            return
        self.standing.doing = "minimizing"

        def tick() -> None:
            self.line.update(self.standing)

        try:
            small = self.minimizer.minimized(found, _MINIMIZE_BUDGET, tick)
        except (KeyboardInterrupt, SubjectError):
            self._keep(found, " (not minimized)")
            raise
        finally:
            self.standing.doing = ""
        if small is None:
            self._keep(found, " (it did not happen again)")
        else:
            self._keep(small)

    def _keep(self, found: Divergence, how: str = "") -> None:
        """Write a divergence as a case, and show it."""
        kind = found.kind
        words = (kind.field, kind.call, _slug(kind.detail), _slug(kind.how))
        name = "-".join(filter(None, words))
        path = self.directory / f"{name}.case"
        note = f"check seed={self.seed} programs={self.standing.done}"
        case = self.pair.as_case(found, note)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_atomic(path, text.dump(case))
            where = f"kept in {path}"
        except (OSError, WriteError) as error:
            where = f"not kept: {error}"
        self.kept[kind] = path
        self.simplest[kind] = found.case
        self._say(f"\nDIVERGENCE {kind}{how}\n{indented(found.told())}\n  {where}")

    def _summary(self, interrupted: bool) -> str:
        standing = self.standing
        seconds = time.monotonic() - standing.started
        done = f"{standing.done} of {standing.wanted} programs"
        lines = [
            "",
            f"{'interrupted: ' if interrupted else ''}{done} in "
            f"{duration(seconds)}, machine {_rate(standing.done, standing.machine_seconds)}, "
            f"model {_rate(standing.done, standing.model_seconds)}: "
            f"{standing.diverged or 'none'} diverge{'' if standing.diverged > 1 else 's'}",
        ]
        if self.left_out:
            lines.append(f"left out for what is not there: {told_left_out(self.left_out)}")
        if standing.diverged:
            shares = (f"{name} {agree} of {of}" for name, agree, of in standing.calls.rows())
            lines.append(f"calls that agree: {', '.join(shares)}")
        for (defect, what), times in self.known.most_common():
            lines.append(f"{times:>7}  known: {known.told(defect)} (it reports {what})")
        for kind, times in standing.kinds.most_common():
            lines.append(f"{times:>7}  {kind}  {self.kept.get(kind, '')}".rstrip())
        if self.kept:
            options = self.options
            on_other = options.on if options.on != "host" else None
            flags = {"--on": on_other, "--kernel": options.kernel, "--geometry": options.geometry}
            on = [word for flag, name in flags.items() if name for word in (flag, name)]
            again = command("check", *on, next(iter(self.kept.values())))
            lines.append(f"Look again with: {again}")
        return "\n".join(lines)

    def _say(self, message: str) -> None:
        self.line.write(message, sys.stdout)


def _ground(geometry: Geometry) -> str:
    """On what page tables, in words."""
    if geometry.name not in (GEOMETRY, WITH_KEYS):
        return f"on {geometry.name}"
    return f"{'with' if geometry.exec_only_keys else 'without'} protection keys"


def _rate(cases: int, seconds: float) -> str:
    return f"{count(cases / seconds if seconds else 0)}/s"


def _slug(detail: str) -> str:
    """A class's flags, or how a program ended, as a part of a file name."""
    words = "".join(letter if letter.isalnum() else " " for letter in detail.lower()).split()
    return "-".join(words)[:80]

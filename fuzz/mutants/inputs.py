"""The inputs that mutants are judged by, and what the unmutated engine does with them.

An input is a program and what it runs on.  The first are the cases of the corpus; the others come
from the fuzzer's own mutator (`fuzz.inputs.mutator`) with a fixed seed, in place of libFuzzer: it
changes those cases and what it has made, and begins anew; what goes new ways through the modules
under test is kept for further changes.  More of them than in a run are programs at an edge
(`fuzz.inputs.edges`).  Each ground (kernel and geometry) is fuzzed on its own, so that the result
depends on the seed, the number and the tree only.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple

from fuzz.case import Case

if TYPE_CHECKING:
    from fuzz.execute import Outcome

# Kernel and geometry; None: its own.  The tiny geometry comes often: things meet there.
GROUNDS: tuple[tuple[str, str | None], ...] = (
    ("linux-6.12", "tiny"),
    ("linux-6.18", None),
    ("linux-6.18", "tiny"),
    ("linux-6.1", None),
    ("linux-6.12", "i386-pae"),
    ("linux-6.1", "tiny"),
    ("linux-6.12", None),
    ("linux-6.10", "tiny"),  # what is sealed is asked for first
    ("linux-6.7", "i386"),
    ("linux-6.18", "i386-pae"),
    ("linux-5.0", "tiny"),
    ("linux-6.12", "arm64-16k-36"),
)
_EDGES = 6  # one input in so many is at an edge: there a small change shows
_MANY_FRAMES = 3000  # a program that fills more is too slow to be run on every mutant


class Input(NamedTuple):
    """One program to run; `kernel` and `geometry` by name, `source` says where it is from."""

    kernel: str
    geometry: str | None
    case: Case
    source: str


class Baseline(NamedTuple):
    """What the unmutated engine shows: (call, rule) of each violation, and a digest of it all."""

    broken: frozenset[tuple[int, str]]
    digest: bytes


class Made(NamedTuple):
    """The inputs of a chunk; `lines`: (module number << 16 | line) -> the inputs that run it.

    Bit n stands for input n, here and in `fresh`: those that went a way that none before them did.
    """

    inputs: list[tuple[Input, Baseline]]
    lines: dict[int, int]
    fresh: int


class Chunk(NamedTuple):
    """A part of the inputs, made by one process."""

    number: int
    ground: tuple[str, str | None] | None  # None: the cases of the corpus as they are
    size: int
    seed: int


def chunks(executions: int, seed: int) -> list[Chunk]:
    """How `executions` inputs are spread over the grounds."""
    size, more = divmod(executions, len(GROUNDS))
    return [
        Chunk(0, None, 0, seed),
        *(
            Chunk(i + 1, ground, size + (i < more), seed)
            for i, ground in enumerate(GROUNDS)
            if size + (i < more)
        ),
    ]


def corpus_files(root: Path) -> list[Path]:
    """The committed cases."""
    return sorted((root / "corpus").rglob("*.case"))


def make(chunk: Chunk, root: Path, files: Sequence[Path]) -> Made:
    """The inputs of one chunk.  Arguments: `files` of the modules whose lines count, by number.

    Imports the engine: call it in a process of its own.
    """
    tracer = _Tracer(files)
    inputs: list[tuple[Input, Baseline]] = []
    lines: dict[int, int] = {}
    fresh = 0
    seen: set[object] = set()
    cases = (_judged(one, tracer) for one in _corpus(root))
    for one in _fuzzed(chunk, root, tracer) if chunk.ground else cases:
        bit = 1 << len(inputs)
        inputs.append(one)
        for line in tracer.lines:
            lines[line] = lines.get(line, 0) | bit
        if not tracer.ways <= seen:
            seen |= tracer.ways
            fresh |= bit
    return Made(inputs, lines, fresh)


def _corpus(root: Path) -> Iterator[Input]:
    """Every case on its own kernel, on those that it expects something of, and on the repaired twin
    of the last one: only there are proposals for repairs run.
    """
    from fuzz.defects.known import repaired
    from fuzz.forms.text import load
    from fuzz.showing import DEFAULT_KERNEL, expectations, kernel_for

    for path in corpus_files(root):
        case = load(path)
        kernels = [case.kernel, *expectations(case)] if case.expects else [case.kernel]
        names = [name or DEFAULT_KERNEL for name in kernels]
        names.append(repaired(kernel_for(case, names[-1])).name)
        for kernel in dict.fromkeys(names):
            yield Input(kernel, case.geometry, case.program(), f"{path.relative_to(root)}")


def _fuzzed(chunk: Chunk, root: Path, tracer: "_Tracer") -> Iterator[tuple[Input, Baseline]]:
    from engine.base.kernel import kernel_named
    from fuzz.forms.text import load
    from fuzz.forms.wire import MAX_CALLS, WIDTH
    from fuzz.inputs.edges import edge
    from fuzz.inputs.inputs import Inputs
    from fuzz.inputs.mutator import Mutator

    assert chunk.ground is not None
    name, geometry = chunk.ground
    kernel = kernel_named(name, geometry)
    inputs = Inputs([kernel.geometry])
    mutator = Mutator(inputs)
    random = Random(f"{chunk.seed} {chunk.number}")
    pool = [inputs.encode(load(path).program(), 0) for path in corpus_files(root)]
    seen: set[object] = set()
    made = 0
    while made < chunk.size:
        if random.randrange(_EDGES):
            data = mutator.mutate(random.choice(pool), WIDTH * MAX_CALLS, random.getrandbits(32))
        else:
            data = inputs.planned(edge, 0, random)
        case = inputs.decode(data).case
        one = Input(name, geometry, case, f"ground {chunk.number}, input {made}")
        judged = _sound(one, tracer)
        made += 1
        if tracer.frames <= _MANY_FRAMES:
            if not tracer.ways <= seen:
                seen |= tracer.ways
                pool.append(data)
            yield judged


def _judged(one: Input, tracer: "_Tracer") -> tuple[Input, Baseline]:
    from engine.base.kernel import kernel_named
    from fuzz.execute import execute

    with tracer:
        outcome = execute(one.case, kernel_named(one.kernel, one.geometry), stop=False)
    tracer.note(outcome)
    return one, Baseline(broken(outcome), digest(outcome))


def _sound(one: Input, tracer: "_Tracer") -> tuple[Input, Baseline]:
    """What comes behind harm is not sound: without its known defects there is more to be seen."""
    from engine.base.kernel import kernel_named
    from fuzz.defects.known import repaired
    from fuzz.rules.index import gravity

    judged = _judged(one, tracer)
    if any(gravity(rule) == 0 for _, rule in judged[1].broken):
        kernel = repaired(kernel_named(one.kernel, one.geometry))
        judged = _judged(one._replace(kernel=kernel.name), tracer)
    return judged


def broken(outcome: "Outcome") -> frozenset[tuple[int, str]]:
    """Which rules a run broke in which calls."""
    return frozenset((index, violation.rule) for index, violation in outcome.violations)


def news(known: frozenset[tuple[int, str]], found: frozenset[tuple[int, str]]) -> str | None:
    """The first rule that is broken and was not before; one that was may break again later."""
    for index, rule in sorted(found - known):
        if not any(rule == other and before <= index for before, other in known):
            return rule
    return None


def traces(outcome: "Outcome") -> dict[str, Any]:
    """All that a run showed and left behind."""
    space = outcome.space
    return {
        "results": outcome.results,
        "page-table bytes": outcome.page_tables,
        "violations": [f"call {index}: {violation}" for index, violation in outcome.violations],
        "VMAs": [(v.start, v.end, v.flags, v.pgoff, v.anon_vma, v.backing) for v in space.vmas],
        "leaves": list(space.tree.leaves()),
        "counters": (
            space.total_vm,
            space.locked_vm,
            space.committed,
            space.tree.rss_anon,
            space.tree.rss_shmem,
        ),
    }


def digest(outcome: "Outcome") -> bytes:
    """A hash of the traces."""
    return hashlib.blake2b(repr(traces(outcome)).encode(), digest_size=8).digest()


class _Tracer:
    """Which lines of some files run, and in which order: a context manager around a run."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._numbers = {str(path): number << 16 for number, path in enumerate(files)}
        self.lines: set[int] = set()
        self.ways: set[object] = set()
        self.frames = 0
        self._last = 0

    def __enter__(self) -> None:
        self.lines, self.ways, self._last = set(), set(), 0
        sys.settrace(self._called)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def note(self, outcome: "Outcome") -> None:
        """What a run showed is a way of its own."""
        self.frames = len(outcome.space.frames.tag)
        for call, result in zip(outcome.case.calls, outcome.results, strict=False):
            self.ways.add((call.name, result if isinstance(result, str) else type(result)))

    def _called(self, frame: FrameType, event: str, argument: Any) -> Callable[..., Any] | None:
        number = self._numbers.get(frame.f_code.co_filename)
        if number is None:
            return None
        lines, ways = self.lines, self.ways

        def line(frame: FrameType, event: str, argument: Any) -> Callable[..., Any]:
            if event == "line":
                here = number | frame.f_lineno
                lines.add(here)
                ways.add(self._last << 32 | here)
                self._last = here
            return line

        return line

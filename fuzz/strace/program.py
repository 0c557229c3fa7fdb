"""The calls of one process as cases, each of which begins with what was mapped then.

A program is cut when it has as many calls as a case may, or needs more of the address space than
the arena has.  What comes out is run on the model: where the kernel chose an address and the model
does not choose the same, the case names it (MAP_FIXED, MREMAP_FIXED), and a call whose result
cannot come about there is left out.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from engine.base.address import WORD_MASK, round_down, round_up
from engine.base.geometry import GEOMETRIES
from engine.base.kernel import Kernel
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_GROWSDOWN,
    MAP_HUGETLB,
    MAP_LOCKED,
    MAP_SHARED,
    MAP_TYPE,
    MREMAP_DONTUNMAP,
    PROT_WRITE,
)
from fuzz.calls.operand import FILES
from fuzz.calls.registry import CALLS
from fuzz.case import MAX_CALLS, Call, Case, Faults, Result
from fuzz.execute import execute
from fuzz.strace.mappings import UNSEEN, Kind, Mappings
from fuzz.strace.rebase import ARENA, BLOCK, Rebase, blocks_of, room
from fuzz.strace.steps import OPENED, PAGE, Step, names_target, up

_TOUCHED = 4 << 20  # bytes of what a call has mapped that are written to at most
_TOUCHED_IN_ALL = 32 << 20  # of a program; after that a few pages of each
_FEW = 4 * PAGE
_RUNS = 8  # of a program, until its calls have the results of the log
_KEPT = MAP_TYPE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_HUGETLB | (0x3F << 26)
_BELOW = GEOMETRIES["x86-64"].arena.start  # what is nowhere in the arena is as far from it
_NUMBERS = 1 << 40  # from here on, no descriptor: files on their way into a case
FAULTS = "SEGV"  # the result of an access that ended in a signal


class Source(NamedTuple):
    """Where a call stands in a log, for people."""

    line: int
    text: str


class Program(NamedTuple):
    """A case, and where it is from.

    `left_out` are calls whose results did not come about; `touches` how many accesses were put in;
    `unnamed` how many files are memory without one, as a case has no more names.
    """

    case: Case
    name: str
    lines: tuple[int, int]
    told: str
    calls: int
    touches: int
    left_out: tuple[tuple[Source, str], ...]
    unnamed: int


class _Taken(NamedTuple):
    """A step of a program, and start and length of what it has mapped to be written to."""

    step: Step
    source: Source
    fresh: tuple[int, int] | None


@dataclass(slots=True)
class Space:
    """An address space: what is mapped in it, and the program that it is in the middle of.

    `name` is that of its cases; `keep` is called with each program that is complete.
    `children` are forked processes that still share its pages.
    """

    name: str
    keep: Callable[[Program], None]
    kernel: Kernel
    touching: bool
    mappings: Mappings = field(default_factory=Mappings)
    children: int = 0
    programs: int = 0
    asked: dict[int, int] = field(default_factory=dict)  # features of its userfaultfds, by fd
    brk: int | None = None
    _sizes: dict[str, int] = field(default_factory=dict)  # of files, as far as they are mapped
    _opens: dict[str, int] = field(default_factory=dict)  # how many a descriptor has stood for
    _numbers: dict[str, int] = field(default_factory=dict)  # of files
    _unnamed: int = 0
    _before: Mappings = field(default_factory=Mappings)
    _children_before: int = 0
    _steps: list[_Taken] = field(default_factory=list)
    _blocks: set[int] = field(default_factory=set)
    _beside: set[int] = field(default_factory=set)  # named by calls that were refused
    _needed: set[int] = field(default_factory=set)  # starts of what must be mapped at first
    _first_cost: int = 0  # calls that map it
    _accesses: int = 0  # that are put in

    def copy(self, name: str) -> "Space":
        """That of a child, with the same mapped."""
        child = Space(name, self.keep, self.kernel, self.touching, Mappings(self.mappings))
        child.brk, child._sizes, child._opens = self.brk, dict(self._sizes), dict(self._opens)
        return child

    def add(self, step: Step, source: Source) -> str:
        """Go on with a call.  Returns: why it is in no case, "" if it is."""
        fits = all(end - start <= ARENA for start, end in step.spans)
        if fits and not self._take(step):
            self.end()
            fits = self._take(step)
        if not fits:
            self.end()
            self._apply(step)
            return "a range that is too large, or of too many mappings, for a case"
        self._apply(step)
        fresh = self._fresh(step) if self.touching else None
        self._accesses += fresh is not None
        self._steps.append(_Taken(step, source, fresh))
        return ""

    def end(self) -> None:
        """The program is complete."""
        if self._steps:
            self.programs += 1
            self.keep(self._program())
        self.forget()

    def forget(self) -> None:
        """The program is of no interest."""
        self._steps, self._blocks, self._beside, self._needed = [], set(), set(), set()
        self._first_cost = self._accesses = 0

    # --- What is mapped ---------------------------------------------------------------------------

    def _apply(self, step: Step) -> None:
        """Follow what a call that works does to what is mapped."""
        if isinstance(step.result, str):
            return
        args, mapped = step.args, self.mappings
        start, end = (args[0], args[0] + up(args[1])) if len(args) > 1 else (0, 0)
        match step.name:
            case "mmap":
                kind = Kind(args[2], args[3] & _KEPT, locked=bool(args[3] & MAP_LOCKED))
                if step.file:
                    kind = kind._replace(file=step.file, base=step.result - args[5])
                    self._grown(kind, step.result + up(args[1]))
                mapped.put(step.result, step.result + up(args[1]), kind)
            case "munmap":
                mapped.cut(start, end)
            case "mprotect":
                mapped.change(start, end, lambda kind: kind._replace(prot=args[2]))
            case "madvise":
                mapped.change(start, end, lambda kind: kind.advised(args[2]))
            case "mlock" | "mlock2" | "munlock":
                locked = step.name != "munlock"
                first = round_down(args[0], PAGE)
                mapped.change(first, end, lambda kind: kind._replace(locked=locked))
            case "mseal":
                mapped.change(start, end, lambda kind: kind._replace(sealed=True))
            case "mremap":
                self._move(step)

    def _move(self, step: Step) -> None:
        old, old_len, new_len, flags, _ = step.args
        old_len, new_len, new = up(old_len), up(new_len), step.result
        assert isinstance(new, int)
        moved = list(self.mappings.over(old, old + max(old_len, 1)))
        kind = moved[0].kind if moved else UNSEEN
        if not flags & MREMAP_DONTUNMAP:
            self.mappings.cut(old, old + old_len)
        pieces = [
            (
                max(each.start, old) - old,
                min(each.end, old + min(old_len, new_len)) - old,
                each.kind,
            )
            for each in moved
        ]
        if new_len > old_len:
            pieces.append((old_len, new_len, pieces[-1][2] if pieces else kind))
        for begin, end, its in pieces:
            if begin < end:
                there = its._replace(base=its.base + new - old) if its.file else its
                self._grown(there, new + end)
                self.mappings.put(new + begin, new + end, there)

    def _grown(self, kind: Kind, end: int) -> None:
        """A file is taken to be as large as its mappings, which end there."""
        if kind.file:
            self._sizes[kind.file] = max(self._sizes.get(kind.file, 0), end - kind.base)

    def file_of(self, step: Step) -> str:
        """What tells the file that is mapped from others.

        A log without names shows a descriptor, which becomes another file's: mostly that is mapped
        from its beginning first, and anywhere.
        """
        descriptor = step.file.removesuffix(OPENED)
        if "<" in descriptor:
            return descriptor[descriptor.index("<") :]
        generation = self._opens.get(descriptor, 0) + (descriptor != step.file)
        self._opens[descriptor] = generation
        return f"{descriptor}, {generation}"

    # --- What a program needs ---------------------------------------------------------------------

    def _take(self, step: Step) -> bool:
        """Have what a call needs in the program, if there is room for it."""
        if not self._steps:
            self._before, self._children_before = Mappings(self.mappings), self.children
        blocks = {
            block
            for start, end in step.spans
            for block in blocks_of(start, min(end, round_up(start + 1, ARENA)))
        }
        beside: set[int] = set()
        needed = {
            each.start
            for start, end in step.spans
            for each in self._before.over(start - PAGE, end + PAGE)
        }
        if isinstance(step.result, str) and step.result != FAULTS and not needed:
            blocks, beside = set(), blocks  # nothing is done there
        if blocks <= self._blocks and needed <= self._needed:
            cost = self._first_cost
        else:
            blocks, needed = blocks | self._blocks, needed | self._needed
            if room(blocks) > ARENA // BLOCK:
                return False
            cost = sum(1 for _ in self._first_calls(Rebase(blocks), needed))
            if cost > MAX_CALLS - len(FILES):
                return False
        if cost + len(self._steps) + self._accesses + 2 + len(FILES) > MAX_CALLS:
            return False
        self._blocks |= blocks
        self._beside |= beside
        self._needed |= needed
        self._first_cost = cost
        return True

    def _first_calls(self, rebase: Rebase, needed: Iterable[int]) -> Iterator[Call]:
        """The calls that map what was there before the program, and is needed."""
        for start in sorted(needed):
            for each in self._before.over(start, start + 1):
                for run in rebase.runs:
                    low, high = max(each.start, run.start), min(each.end, run.end)
                    if low < high:
                        at = low - run.start + run.at
                        yield from self._mapping(at, high - low, low - each.kind.base, each.kind)
        if self._children_before:
            yield Call("fork", ())

    def _mapping(self, start: int, length: int, offset: int, kind: Kind) -> Iterator[Call]:
        fd, offset = (self._descriptor(kind.file), offset) if kind.file else (-1, 0)
        args = (start, length, kind.prot, kind.flags | MAP_FIXED, fd, offset)
        yield Call("mmap", args, start)
        for advice in kind.advice:
            yield Call("madvise", (start, length, advice))
        if self.touching and kind.prot & PROT_WRITE and not kind.flags & MAP_HUGETLB:
            yield Call("touch", (start, length))
        if kind.locked and length <= _TOUCHED:
            yield Call("mlock", (start, length))
        if kind.sealed:
            yield Call("mseal", (start, length))

    # --- The case ---------------------------------------------------------------------------------

    def _fresh(self, step: Step) -> tuple[int, int] | None:
        """Start and length of what a call has made writable, which a program then writes to."""
        if isinstance(step.result, str):
            return None
        args = step.args
        match step.name:
            case "mmap":
                start, length = step.result, up(args[1])
            case "mprotect":
                start, length = args[0], up(args[1])
            case "mremap" if up(args[2]) > up(args[1]):
                start, length = step.result + up(args[1]), up(args[2]) - up(args[1])
            case _:
                return None
        kind = next((each.kind for each in self.mappings.over(start, start + PAGE)), None)
        if kind is None or not kind.prot & PROT_WRITE or kind.flags & MAP_HUGETLB:
            return None
        return start, length

    def _refused_nearby(self) -> set[int]:
        """The blocks that only refused calls name, and that lie where others are."""
        first = [start // BLOCK for start, _ in self._steps[0].step.spans[:1]]
        windows = {block * BLOCK // ARENA for block in self._blocks or first}
        blocks = {block for block in self._beside if block * BLOCK // ARENA in windows}
        return blocks if room(self._blocks | blocks) <= ARENA // BLOCK else set()

    def _program(self) -> Program:
        rebase = Rebase(self._blocks | self._refused_nearby())
        first = list(self._first_calls(rebase, self._needed))
        free = [bool(taken.step.made) for taken in self._steps]  # as made: the kernel chooses
        kept = list(range(len(self._steps)))
        left_out: list[tuple[Source, str]] = []
        touching = self.touching
        for attempt in range(_RUNS + 1):
            calls, owners = self._calls(rebase, first, kept, free, touching)
            wrong = self._wrong(calls, owners)
            if not wrong:
                break
            if any(free[index] for index in wrong):
                for index in wrong:
                    free[index] = False
                continue
            if touching:  # VMAs that have pages merge otherwise
                without = self._wrong(*self._calls(rebase, first, kept, free, False))
                if len(without) < len(wrong):
                    touching = False
                    continue
            # What comes behind may be wrong because of the first.
            gone = list(wrong) if attempt == _RUNS else [next(iter(wrong))]
            left_out += [(self._steps[index].source, wrong[index]) for index in gone]
            kept = [index for index in kept if index not in gone]
        lines = [taken.source.line for taken in self._steps]
        calls, _ = self._calls(rebase, first, kept, free, touching)
        return Program(
            Case(tuple(calls)),
            f"{self.name}-{self.programs:03}",
            (lines[0], lines[-1]),
            rebase.told(),
            len(kept),
            sum(call.name == "touch" and call.result is None for call in calls),
            tuple(left_out),
            self._unnamed,
        )

    def _calls(
        self,
        rebase: Rebase,
        first: Sequence[Call],
        kept: Sequence[int],
        free: Sequence[bool],
        touching: bool,
    ) -> tuple[list[Call], list[int | None]]:
        """The calls of a case, and of each the index of its step, if it has one."""
        calls = [call for call in first if touching or call.name != "touch"]
        owners: list[int | None] = [None] * len(calls)
        for index in kept:
            step, _, fresh = self._steps[index]
            call = _rebased(step, step.made if free[index] else step.args, rebase)
            if step.file:
                args = (*call.args[:4], self._descriptor(step.file), call.args[5])
                call = call._replace(args=args)
            calls.append(call)
            owners.append(index)
            if touching and fresh is not None and (start := rebase(fresh[0])) is not None:
                calls.append(Call("touch", (start, fresh[1])))
                owners.append(None)
        files = self._opened(calls)
        calls = [*(Call("file", (fd, size), 0) for fd, size in files.values()), *calls]
        calls = [_with_file(call, files) for call in _within_reason(calls)]
        return calls, [None] * len(files) + owners

    def _descriptor(self, file: str) -> int:
        """A number for a file that is none of a descriptor of cases; see `_with_file`."""
        return self._numbers.setdefault(file, _NUMBERS + len(self._numbers))

    def _opened(self, calls: Sequence[Call]) -> dict[int, tuple[int, int]]:
        """The files that a case has, by their numbers: descriptor and size of each.

        There are not as many as some programs need; what is shared comes first.
        """
        mapped = [call for call in calls if call.name == "mmap" and call.args[4] >= _NUMBERS]
        mapped.sort(key=lambda call: call.args[3] & MAP_TYPE != MAP_SHARED)
        numbers = list(dict.fromkeys(call.args[4] for call in mapped))
        self._unnamed = max(len(numbers) - len(FILES), 0)
        names = {number: file for file, number in self._numbers.items()}
        return {
            number: (fd, self._sizes[names[number]])
            for number, fd in zip(numbers, FILES.values(), strict=False)
        }

    def _wrong(self, calls: Sequence[Call], owners: Sequence[int | None]) -> dict[int, str]:
        """The steps whose results are not those of the log, and what the model returns."""
        outcome = execute(Case(tuple(calls)), self.kernel, stop=False, check=False)
        wrong: dict[int, str] = {}
        for call, owner, got in zip(calls, owners, outcome.results, strict=False):
            if owner is not None and got != call.result:
                wrong.setdefault(owner, _told(got))
        return wrong


def _rebased(step: Step, operands: Sequence[int], rebase: Rebase) -> Call:
    """A step with offsets into the arena for addresses, which may lie outside."""
    args = list(operands)
    nowhere = step.name == "mremap" and not args[4] and not names_target(args[3])
    for index in CALLS[step.name].addresses:
        if not (nowhere and index == 4):
            place = rebase(args[index])
            args[index] = (args[index] - _BELOW if place is None else place) & WORD_MASK
    result: Result = step.result
    if step.result == FAULTS:
        result = Faults(((args[0] // PAGE, 1),))
    elif isinstance(step.result, int) and step.result:
        place = rebase(step.result)
        result = "OUT" if place is None else place
    return Call(step.name, tuple(args), result)


def _with_file(call: Call, files: Mapping[int, tuple[int, int]]) -> Call:
    """A mapping of a file with that of the case; if there is none, without one, as private or
    shared as it was.
    """
    if call.name != "mmap" or call.args[4] < _NUMBERS:
        return call
    if call.args[4] in files:
        return call._replace(args=(*call.args[:4], files[call.args[4]][0], call.args[5]))
    return call._replace(args=(*call.args[:3], call.args[3] | MAP_ANONYMOUS, -1, 0))


def _within_reason(calls: Sequence[Call]) -> list[Call]:
    """The calls, with accesses that fill no more than a program may take the time for."""
    left, limited = _TOUCHED_IN_ALL, []
    for call in calls:
        if call.name == "touch" and call.result is None:
            start, length = call.args
            length = min(up(length), _TOUCHED if left >= _TOUCHED else _FEW)
            left -= length
            call = call._replace(args=(start, length))
        limited.append(call)
    return limited


def _told(result: Result) -> str:
    if isinstance(result, str):
        return result
    return f"{result:#x}" if isinstance(result, int) else "faults"

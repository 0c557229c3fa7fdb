"""State feedback: what the engine did, as extra libFuzzer counters ("cells").

Edge coverage of the engine is exhausted after a few thousand inputs, because the interesting
states differ in data, not in branches: which mover met which alignment over which neighbours.  A
cell is one such combination.  Cells are counted for the status line, and to tell which inputs are
new to the model.

The cells, all of them once for each kernel of the run, whether the program ran on it or it is
known to do the same as another one (`fuzz.matrix`):

==========  ======================================================================================
kind        key
==========  ======================================================================================
place       point of a move (which mover moved, was refused, split, allocated …) x extent class
            x alignment of the two cursors x whether they are in the same PUD entry
path        two consecutive points of one move, each with its extent class
entry       a move as it starts: relation of the two ranges x realigned or not x heads x alignment
            x purpose (copy, rollback, stack) x one VMA on both sides or two
refused     a refused fast path x relation of the ranges x realigned or not x heads
leave       points of the whole move as a set x relation of the ranges x complete or not
vma         the source's VMA is faulted or not x shared or not x displaced from its page offset or
            not x the move begins, ends with it; the destination's VMA begins with the move
flags       call x each flag operand x result
pair        two consecutive calls, each with its result
shape       call x result x page tables (bucketed) x VMAs (bucketed) after it
==========  ======================================================================================

Kinds that are fed are libFuzzer's counters as well: an input that reaches one of their cells for
the first time joins the corpus.  `FED` is empty: whatever was fed, the corpus grew faster than it
taught, and findings took as long or longer (`python -m fuzz.bench feedback --feed KIND,…`).

extent class: `page`, `part` of a slot, `slot`, `slots` (more than one, less than a PUD), `pud`.
Alignment: `both` on a slot boundary, `same` offset in the slot, `apart`.
Relation: `down`/`up` is the direction of the move; ranges `overlap`, `touch`, share a `slot` or
are `apart`.
Heads: who lies in the first slot below the start, on the old and on the new side: nobody
(`free`), the moved VMA itself (`own`), `others`, or `both`.
Result: `ok`, the error's name, `SKIP`, `OUT`, or which faults a touch or peek met.

Cells that are fed get numbers in the order in which they are first seen, so a run that repeats the
same inputs repeats the same numbers.

libFuzzer gets the cells through two private names of Atheris, `_reserve_counter` and
`_trace_branch`; this module is the only user, is handed the Atheris module, and checks that both
exist and act.
"""

from collections import Counter
from collections.abc import Collection, Hashable
from typing import TYPE_CHECKING, Protocol

from engine.base import points
from engine.base.address import Range, round_down
from engine.base.geometry import Geometry
from fuzz.calls.operand import Flags, Symbols
from fuzz.calls.registry import CALLS
from fuzz.case import Call, Faults, Result
from fuzz.matrix import KernelSet, singles

KINDS = ("place", "path", "entry", "refused", "leave", "vma", "flags", "pair", "shape")
FED: tuple[str, ...] = ()  # unless a run says otherwise

if TYPE_CHECKING:
    from engine.move import Move, MovePoint
    from engine.state.space import AddressSpace
    from engine.state.vma import Vma
    from fuzz.execute import Outcome

CELLS = 1 << 14

# By call: position and name of each operand that has symbols, and the bits of it that count.
_FLAG_OPERANDS = {
    name: [
        (i, param.name, param.kind.known if isinstance(param.kind, Flags) else -1)
        for i, param in enumerate(call.params)
        if isinstance(param.kind, Symbols)
    ]
    for name, call in CALLS.items()
}
_REFUSALS = frozenset((points.PMD_OCCUPIED, points.PUD_OCCUPIED, points.ALLOC_FAILED))


class FeedbackUnavailable(RuntimeError):
    """This Atheris has no counters that can be used for cells: the run would be blind to state."""


class Counters(Protocol):
    """The part of the Atheris module that is used here."""

    def _reserve_counter(self) -> int: ...

    def _trace_branch(self, counter: int, /) -> None: ...


class Cells:
    """The cells met so far, and a block of libFuzzer counters for those that are fed.

    Each counts once for every kernel that it is met on.

    Must be created before `atheris.Fuzz()` is called.  `atheris` None: no cell is fed.  `size` is
    the number of counters; when all are taken, further cells share them.
    Errors raised: FeedbackUnavailable if Atheris lacks the private names or hands out something
    else than consecutive counters.
    """

    def __init__(self, atheris: Counters | None, size: int = CELLS) -> None:
        self._atheris = atheris
        self._size = size
        self._met: dict[Hashable, KernelSet] = {}  # on which kernels
        self.on: Counter[KernelSet] = Counter()  # how many of a kernel, by the set of it alone
        self._numbers: dict[tuple[Hashable, KernelSet], int] = {}  # of what is fed, by kernel
        self._hit: set[int] = set()
        if atheris is None:
            return
        try:
            self._inert = atheris._trace_branch
            # One more than is used: the last counter of all never reaches libFuzzer.
            reserved = [atheris._reserve_counter() for _ in range(size + 1)]
        except AttributeError as missing:
            raise FeedbackUnavailable(
                f"state cells need a private name of Atheris: {missing}"
            ) from None
        self._first = reserved[0]
        if reserved != list(range(self._first, self._first + size + 1)):
            raise FeedbackUnavailable("Atheris' counters are not consecutive any more")

    @property
    def seen(self) -> int:
        """Cells met so far in this process, on all kernels."""
        return self.on.total()

    def check_live(self) -> None:
        """Check that `Fuzz()` put the real counter function in place; call it from the target.

        Errors raised: FeedbackUnavailable.
        """
        if self._atheris is not None and self._atheris._trace_branch is self._inert:
            raise FeedbackUnavailable(
                "Atheris did not activate _trace_branch: cells would be ignored"
            )

    def hit(self, key: Hashable, kernels: KernelSet = 1, *, feed: bool = True) -> None:
        """Note a cell of the present input on these kernels; with `feed` libFuzzer gets to know."""
        met = self._met.get(key, 0)
        if fresh := kernels & ~met:
            self._met[key] = met | fresh
            self.on.update(singles(fresh))
        if feed and self._atheris is not None:
            for one in singles(kernels):
                self._hit.add(self._numbers.setdefault((key, one), len(self._numbers)))

    def flush(self) -> None:
        """Count each noted cell once and forget them: the end of an input.

        Once, because libFuzzer's counters have 8 bits: 256 hits would look like none.
        """
        if self._atheris is None:
            return
        trace = self._atheris._trace_branch  # looked up here: Fuzz() replaces it
        first, size = self._first, self._size
        for number in sorted({number % size for number in self._hit}):
            trace(first + number)
        self._hit.clear()


def result_class(result: Result) -> str:
    """A result without its number: `ok`, the error, or the kinds of fault."""
    if isinstance(result, int):
        return "ok"
    if isinstance(result, Faults):
        return f"{'segv' if result.segv else ''}{'bus' if result.bus else ''}"
    return result


def bucket(count: int) -> int:
    """0, 1, 2, 3 and then powers of two: a small number of classes of a count."""
    return count if count < 4 else count.bit_length() + 1


def relation(old: Range, new: Range, slot_bytes: int) -> str:
    """How two equally long ranges lie: the direction from `old` to `new`, and how close."""
    direction = "down" if new.start < old.start else "up"
    low, high = sorted((old, new))
    if low.end > high.start:
        return f"{direction} overlap"
    if low.end == high.start:
        return f"{direction} touch"
    if round_down(low.end - 1, slot_bytes) == round_down(high.start, slot_bytes):
        return f"{direction} slot"
    return f"{direction} apart"


class StateObserver:
    """The observer of programs for one geometry: turns the points of moves and results into cells.

    Use: pass it to `execute` as one of `listeners`, and its `step` as `on_step`; then call `finish`
    with the outcome, which counts the cells.  `fed` are the kinds that libFuzzer gets to know.
    """

    hears = points.STEPS

    def __init__(self, cells: Cells, geometry: Geometry, fed: Collection[str] = FED) -> None:
        self._cells = cells
        self._fed = frozenset(fed)
        self._page = geometry.page_bytes
        self._slot = geometry.slot_bytes
        self._pud = geometry.pud_bytes
        self._keys: dict[tuple[Hashable, ...], None] = {}  # of this program, in order
        self._shapes: list[int] = []
        self._last: tuple[str, str] | None = None
        self._points: set[str] = set()
        self._entry: tuple[Hashable, ...] = ()

    def __call__(self, space: "AddressSpace", point: points.Point) -> None:
        """Note a point of a move."""
        name = point.name
        at: MovePoint = point  # type: ignore[assignment]  # its module must be covered first
        keys, move, extent = self._keys, at.move, at.end - at.start
        if name == points.ENTER:
            self._begin(move)
        here = (name, self._extent_class(extent))
        self._points.add(name)
        old, new = move.old, move.new
        keys["place", here, self._alignment(old, new), (old ^ new) < self._pud] = None
        keys["path", self._last, here] = None
        self._last = here
        if name in _REFUSALS:
            keys["refused", name, self._entry] = None
        elif name == points.LEAVE:
            keys["leave", frozenset(self._points), self._entry[0], extent == move.length] = None
            self._last = None

    def _note(self, key: tuple[Hashable, ...]) -> None:
        self._keys[key] = None

    def step(self, index: int, space: "AddressSpace") -> None:
        """Note the shape of the address space after a call (`on_step` of `execute`)."""
        if index >= 0:
            self._shapes.append(bucket(len(space.vmas)))

    def finish(self, outcome: "Outcome", kernels: KernelSet = 1) -> None:
        """Turn the results of a program into cells, count all, and make ready for the next one.

        Arguments: `kernels` that do this, for each of which the cells count.
        """
        hit = self._note
        before: tuple[str, str] | None = None
        for call, result, tables, vmas in zip(
            outcome.case.calls, outcome.results, outcome.page_tables, self._shapes, strict=False
        ):
            here = (call.name, result_class(result))
            for kind, value in flag_operands(call):
                hit(("flags", here, kind, value))
            hit(("pair", before, here))
            hit(("shape", here, bucket(tables // self._page), vmas))
            before = here
        for key in self._keys:
            self._cells.hit(key, kernels, feed=key[0] in self._fed)
        self.reset()

    def reset(self) -> None:
        """Forget the program, and make ready for the next one."""
        self._keys.clear()
        self._shapes.clear()
        self._last = None

    def _begin(self, move: "Move") -> None:
        """Look at a move as a whole, before its first iteration."""
        lowered_by = move.requested_old - move.old
        old = Range(move.requested_old, move.old_end)
        new = Range(move.new + lowered_by, move.new + lowered_by + old.length)
        heads = (
            self._head(move.space, move.old_vma, old.start),
            self._head(move.space, move.new_vma, new.start),
        )
        self._entry = (relation(old, new, self._slot), lowered_by > 0, heads)
        self._points = {points.REALIGNED} if lowered_by else set()
        self._note(("vma", *self._vma_state(move, old.start, new.start)))
        self._note(
            (
                "entry",
                self._entry,
                self._alignment(old.start, new.start),
                "stack" if move.for_stack else "rollback" if move.rollback else "copy",
                move.old_vma is move.new_vma,
            )
        )

    @staticmethod
    def _vma_state(move: "Move", old: int, new: int) -> tuple[Hashable, ...]:
        """What decides the fate of the two VMAs of a move, and shows in no branch of the mover."""
        source, target = move.old_vma, move.new_vma
        displaced = source.pgoff != source.start >> move.space.geometry.page_shift
        return (
            source.anon_vma is not None,
            not source.is_anonymous,
            displaced,
            source.start == old,
            source.end == move.old_end,
            target.start == new,
        )

    def _head(self, space: "AddressSpace", vma: "Vma", start: int) -> str:
        """Who lies in the slot below `start`: nobody, the VMA itself, another one, or both."""
        there = space.vmas.intersecting(round_down(start, self._slot), start)
        if not there:
            return "free"
        return "own" if there == [vma] else "others" if vma not in there else "both"

    def _extent_class(self, extent: int) -> str:
        if extent == self._slot:
            return "slot"
        if extent < self._slot:
            return "page" if extent == self._page else "part"
        return "pud" if extent == self._pud else "slots"

    def _alignment(self, old: int, new: int) -> str:
        if (old ^ new) & (self._slot - 1):
            return "apart"
        return "same" if old & (self._slot - 1) else "both"


def flag_operands(call: Call) -> list[tuple[str, int]]:
    """Kind and value of each operand that is a set of flags or an advice; unknown bits cleared."""
    return [(name, call.args[i] & known) for i, name, known in _FLAG_OPERANDS[call.name]]

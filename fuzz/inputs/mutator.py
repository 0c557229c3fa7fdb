"""How inputs change from one execution to the next: by whole calls of the byte form.

libFuzzer's own mutations insert and erase bytes, which shifts every record behind them and so makes
another program of it.  These keep the calls that they do not mean to change: they add, drop, copy
and swap calls, and change single bytes of one, each of which stands for an operand or a choice
(see `fuzz.forms.wire`).  Often a program begins anew, made to a plan (`fuzz.inputs`): what takes
several calls that belong together, or a limit that just suffices, is rarely met by chance.
Measured by `pmdfuzz museum run`, see corpus/museum/README.md.
"""

import random
from collections.abc import Callable, Sequence

from fuzz.calls.actors import PREFIX
from fuzz.calls.registry import that_do
from fuzz.calls.syscall import Does
from fuzz.forms.wire import WIDTH
from fuzz.inputs.edges import edge
from fuzz.inputs.inputs import Inputs, Records
from fuzz.inputs.rows import row
from fuzz.inputs.scene import scene

_MOST_AT_ONCE = 4  # changes
_USUAL_CALLS = 8  # longer programs tend to get shorter: most bugs need few calls, and each costs
_FRESH = 0.75  # of the inputs begin anew
_ANEW = (*(scene,) * 6, *(row,) * 2, edge, None)  # to which plan; None: to none
_USUAL_KINDS = ("mmap", "touch", "mremap")
_MOVING = that_do(Does.MOVES)  # what most rules look at

Change = Callable[[Records, random.Random], None]


class Mutator:
    """Changes inputs.  Equal inputs and seeds give equal results.

    Arguments: `inputs` reads what comes out; `focus` are the geometries that new programs are for,
    by their number there (empty: all); `planned` false makes none of them to a plan.
    """

    def __init__(self, inputs: Inputs, focus: Sequence[int] = (), *, planned: bool = True) -> None:
        opcodes = inputs.opcodes
        self._focus = focus or range(len(inputs.geometries))
        self._anew = _ANEW if planned else (None,)
        self._inputs = inputs
        self._opcodes: dict[str, list[int]] = {}
        self._names = list(opcodes)
        for byte, name in enumerate(opcodes):
            self._opcodes.setdefault(name, []).append(byte)
        self._kinds = list(self._opcodes)
        self._usual = [name for name in _USUAL_KINDS if name in self._opcodes] or self._kinds
        longer: tuple[Change, ...] = (self._insert, self._insert_alike, self._append, _copy)
        self._longer = frozenset((*longer, self._append_move))
        more = (self._append, self._append_move, self._append_move, self._let_fail, self._let_fail)
        self._acting = [name for name in self._opcodes if name.startswith(PREFIX)]
        self._changes = (
            *longer,
            *more,
            self._interrupt,
            _drop,
            _drop,
            _swap,
            _redo,
            _redo,
            _change,
            _change,
        )

    def mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """Another input, made from this one; at most `max_size` bytes."""
        rng = random.Random(seed)
        geometry, records = self._inputs.records(data)
        if not records or rng.random() < _FRESH:
            return self._fresh(rng, max_size)
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, _MOST_AT_ONCE))):
            change = rng.choice(self._changes)
            if change in self._longer and rng.randrange(2 * _USUAL_CALLS) < len(records):
                change = _drop
            change(records, rng)
        if rng.randrange(2) and records and self._kind(records[-1]) not in _MOVING:
            self._append_move(records, rng)
        return self._inputs.joined(geometry, records, max_size)

    def cross_over(self, one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
        """The first calls of one input and the last of another; at most `max_size` bytes."""
        rng = random.Random(seed)
        (geometry, head), (_, tail) = self._inputs.records(one), self._inputs.records(other)
        kept = head[: rng.randint(0, len(head))] + tail[rng.randint(0, len(tail)) :]
        return self._inputs.joined(geometry, kept, max_size)

    def _fresh(self, rng: random.Random, max_size: int) -> bytes:
        """A program made to a plan, or of few kinds of calls."""
        geometry = rng.choice(self._focus)
        if plan := rng.choice(self._anew):
            return self._inputs.planned(plan, geometry, rng)[:max_size]
        kinds = [*self._usual, *rng.choices(self._kinds, k=rng.randint(1, 2))]
        records = (
            self._record(rng.choice(kinds), rng) for _ in range(rng.randint(3, _USUAL_CALLS))
        )
        return self._inputs.joined(geometry, records, max_size)

    def _record(self, kind: str, rng: random.Random) -> bytes:
        """A call of that kind; most bytes stand for something likely."""
        return bytes((rng.choice(self._opcodes[kind]), *rng.randbytes(WIDTH - 1)))

    def _kind(self, record: bytes) -> str:
        return self._names[record[0]]

    def _insert(self, records: Records, rng: random.Random) -> None:
        records.insert(rng.randint(0, len(records)), rng.randbytes(WIDTH))

    def _append(self, records: Records, rng: random.Random) -> None:
        records.append(rng.randbytes(WIDTH))

    def _append_move(self, records: Records, rng: random.Random) -> None:
        """What the program has prepared is moved."""
        if "mremap" in self._opcodes:
            records.append(self._record("mremap", rng))

    def _let_fail(self, records: Records, rng: random.Random) -> None:
        """One of the calls, mostly the last, does not get what it asks for."""
        if "@fail" in self._opcodes and records:
            at = len(records) - 1 if rng.randrange(3) else rng.randrange(len(records))
            records.insert(at, self._record("@fail", rng))

    def _interrupt(self, records: Records, rng: random.Random) -> None:
        """Others do something in the middle of one of the last calls."""
        if self._acting and records:
            at = max(len(records) - rng.choice((1, 1, 1, 2, 3)), 0)
            records.insert(at, self._record(rng.choice(self._acting), rng))

    def _insert_alike(self, records: Records, rng: random.Random) -> None:
        """A call of a kind that the program has."""
        if records:
            opcode = rng.choice(records)[:1]
            at = rng.randint(0, len(records))
            records.insert(at, opcode + rng.randbytes(WIDTH - 1))


def _drop(records: Records, rng: random.Random) -> None:
    if records:
        del records[rng.randrange(len(records))]


def _copy(records: Records, rng: random.Random) -> None:
    if records:
        records.insert(rng.randint(0, len(records)), rng.choice(records))


def _swap(records: Records, rng: random.Random) -> None:
    if records:
        i, j = rng.randrange(len(records)), rng.randrange(len(records))
        records[i], records[j] = records[j], records[i]


def _redo(records: Records, rng: random.Random) -> None:
    """One call with other operands."""
    if records:
        at = rng.randrange(len(records))
        records[at] = records[at][:1] + rng.randbytes(WIDTH - 1)


def _change(records: Records, rng: random.Random) -> None:
    """One byte of a call."""
    if records:
        at = rng.randrange(len(records))
        record = bytearray(records[at])
        record[rng.randrange(WIDTH)] = rng.randrange(256)
        records[at] = bytes(record)

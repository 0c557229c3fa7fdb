"""The byte form of a case, for libFuzzer: any bytes are a program, and any program is bytes.

A program is a row of records of `WIDTH` bytes.  One record is one call:

    0        1       2      3 4 5    6 7 8    9 10 11   12 13 14   15
    opcode   flags   prot   field 0  field 1  field 2   field 3    mark

A field is an operand in three bytes: a mode ("start of an earlier mapping", "PMD boundary", "up
to the end of the slot"), an index (which mapping, which boundary) and a delta (mostly none, else
a few pages).  What a byte means is looked up in tables of 256 entries in which a likely meaning
has many entries, so that a mutated byte still means something, mostly something worth trying.

What no field can express is a literal: a record that is not a call but gives one operand of the
next call its exact value.  So `decode(encode(case)) == case.program()` for every case.  Decoding
and encoding walk the same plan of steps, and are one class; the encoder searches for bytes that the
decoder reads as the wanted value.

What bytes mean follows from the declarations of the calls and the tables of `fuzz.calls.record`.
When those change, a corpus that libFuzzer has collected stays a corpus of programs, but of others:
what must last is kept as case files.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

from engine.base.address import WORD_MASK, round_down, round_up
from engine.base.geometry import Geometry
from fuzz.calls import record as meanings
from fuzz.calls.guess import Mapped
from fuzz.calls.record import Reads
from fuzz.calls.registry import CALLS, that_do
from fuzz.calls.syscall import Does, Syscall
from fuzz.case import Call, Case, limits_are_in_place

WIDTH = 16  # bytes of a record
MAX_CALLS = 24  # default limit of a decoded program
POPULATED_PAGES = 2048  # what a call that fills pages is kept to, literals apart

_MARK = 15  # its place in a record
_LITERAL_AT = 2  # of the value in a literal; byte 1 says which operand
_EXACT = 0x45  # the mark of a record whose opcode is meant whatever came before it
_RECENT = 7  # mask of the part of an index that says which of the earlier mappings
_BACK = (0, 0, 0, 0, 1, 1, 2, 3)  # by that part: how far back; the latest is the likeliest
_OPERANDS = max(len(call.params) for call in CALLS.values())

# What means something where nothing is mapped, and what makes something of nothing.
_AT_ONCE = that_do(Does.BEGINS)
_CREATORS = that_do(Does.BEGINS | Does.MAPS)
_PREPARED_BY = {name: call.prepared_by for name, call in CALLS.items()}
_REFERS_TO = {name: call.refers_to or call.prepared_by for name, call in CALLS.items()}
# What a call does to what is mapped; which range others may refer to, and whether that is one page.
_NOTED = {
    name: (call.guess, span, span is not None and span.is_point)
    for name, call in CALLS.items()
    for span in [call.span if call.span and not call.span.fresh else None]
}

_T = TypeVar("_T")

_CHOICE, _ADDRESS, _LENGTH, _UPWARDS, _DOWNWARDS = Reads


def _opcodes() -> list[str]:
    """The name of the call by the first byte of a record; "" is a literal.

    A call takes its bytes from whatever call of a lower number had them, so that all other bytes
    go on to mean what they meant before there was that call.
    """
    names = [""] * 256
    for name, call in CALLS.items():
        for code in call.codes:
            names[code] = name
    return names


def _spread(weights: Mapping[_T, int]) -> list[_T]:
    """256 entries, each thing in proportion to its weight and at least once; likely ones first."""
    things = sorted(weights, key=lambda thing: -weights[thing])
    total = sum(weights.values())
    shares = {thing: max(1, weights[thing] * 256 // total) for thing in things}
    shares[things[0]] += 256 - sum(shares.values())
    return [thing for thing in things for _ in range(shares[thing])]


class _Step(NamedTuple):
    """How one operand is read from a record."""

    operand: int  # its position in the call
    at: int  # its first byte in the record
    what: Reads  # a choice: one byte; else a field: an address, a length, or the end of a range
    table: list[int]  # by byte: the value of a choice, the mode of a field
    populating: frozenset[int] = frozenset()  # choices that fill pages
    cap: int = WORD_MASK  # longest range in bytes
    unless: tuple[int, int] | None = None  # it is not read if that operand has these bits


class _State:
    """What decoding remembers: ranges in bytes as (start, length), the latest last."""

    __slots__ = ("_given", "_guess", "address", "earlier", "hit", "size")

    def __init__(self, arena: int, page: int) -> None:
        self._guess = Mapped(arena, page)
        # What the calls so far were given: all of them, and by their names.
        self._given: dict[str, list[tuple[int, int]]] = {"": []}
        self.begin("")

    @property
    def mapped(self) -> list[tuple[int, int]]:
        """By guess: what the calls so far have mapped."""
        return self._guess.spans

    def begin(self, name: str) -> None:
        """A call of that name begins."""
        # The ranges that it may refer to: those that were prepared for it if there are any; a move,
        # to those that were moved, so that it may bring them back.
        self.earlier = self._given.get(_REFERS_TO.get(name, "")) or self._given[""]
        self.address = -1  # its first address
        self.hit = (0, 0)  # the mapping that its latest address refers to
        self.size = 0  # its latest length

    def has_seen(self, name: str) -> bool:
        """Has there been a call of that name?"""
        return name in self._given

    def note(self, name: str, args: tuple[int, ...]) -> None:
        """Remember what a call has likely mapped and unmapped."""
        given = self._given.setdefault(name, [])
        guess, span, is_point = _NOTED[name]
        if guess is not None:
            guess(self._guess, *args)
        if span is None:
            return
        start, length = span.of(args)
        named = start, length & WORD_MASK
        given.append(named)
        if not is_point:
            self._given[""].append(named)


class Codec:
    """Bytes to programs and back, for one geometry.

    Arguments: `calls` names the calls that decoded programs may hold (None: all); the opcodes of
    the others stand for allowed ones.  Bytes of allowed calls mean the same for every `calls`.
    `max_calls` is where decoding stops.
    Errors raised: ValueError if `calls` is empty or names an unknown call.
    """

    def __init__(
        self, geometry: Geometry, calls: frozenset[str] | None = None, max_calls: int = MAX_CALLS
    ) -> None:
        self.geometry = geometry
        self.max_calls = max_calls
        self._page, self._slot = geometry.page_bytes, geometry.slot_bytes
        self._arena = geometry.arena.length
        # With two levels a PUD span is a slot: use something larger in its place.  A span that does
        # not fit into the arena twice can hold no move: use slots instead.
        span = geometry.pud_bytes if geometry.levels > 2 else geometry.slot_bytes << 8
        self._low = round_up(max(geometry.min_addr - geometry.arena.start, 0), self._page)
        self._pud = span if self._low + span * 2 <= self._arena else geometry.slot_bytes
        self._puds, self._pmds = self._anchors()
        self._deltas = self._delta_table()
        self._delta_byte = {delta: self._deltas.index(delta) for delta in self._deltas}
        slot, pud = self._slot, self._pud
        steps = [n * unit for unit in (slot, pud) for n in (-1, 1, -2, 2, -3, 3)]
        self._shifts = [*steps, *steps[:6], *steps[:4], -4 * slot, 4 * slot, -8 * slot, 8 * slot]
        self._shifts += steps[: 32 - len(self._shifts)]
        self._odd = [
            0,
            geometry.word_mask,
            geometry.word_mask + 1 - self._page,
            (geometry.word_mask + 1) // 2,
            WORD_MASK,
            self._arena,
            self._page // 2,
            1,
        ]
        self.opcodes = self._allowed(calls)  # the calls that a record's first byte stands for
        self._names = frozenset(self.opcodes)
        self._opcode_byte = {name: self._allowed(None).index(name) for name in CALLS}
        self._literal = self.opcodes.index("")
        self._first = next((n for n in CALLS if n in _CREATORS & self._names), "")
        self._plans = self._make_plans()
        self._blank = {name: list(declared.blank) for name, declared in CALLS.items()}

    @staticmethod
    def _allowed(calls: frozenset[str] | None) -> list[str]:
        """The name by opcode; opcodes of calls that are not allowed are shared out."""
        names = _opcodes()
        if calls is None:
            return names
        unknown = calls - CALLS.keys()
        if unknown or not calls:
            raise ValueError(
                f"unknown calls: {', '.join(sorted(unknown))}" if unknown else "no calls"
            )
        rest = [name for name in names if name in calls]
        return [
            name if name in calls or not name else rest[code * 97 % len(rest)]
            for code, name in enumerate(names)
        ]

    def _anchors(self) -> tuple[list[int], list[int]]:
        """PUD and PMD boundaries that addresses are made of: few, so that operands meet."""
        arena, pud, slot = self._arena, self._pud, self._slot

        def inside(places: Iterable[int]) -> list[int]:
            return list(dict.fromkeys(p for p in places if self._low <= p < arena))

        spans = (1, 2, 0, 3, 4, 5, 8)
        puds = inside([n * pud for n in spans] + [round_down(arena // 2, pud), arena - pud])
        puds = puds or [self._low]
        pmds = inside(base + n * slot for n in (1, 2, -1, 3, 4, 8) for base in puds[:6])
        pmds += inside([arena - slot])
        return puds, pmds or puds

    def _delta_table(self) -> list[int]:
        """Bytes added to an operand, by delta byte: mostly none, small ones likely."""
        page, slot = self._page, self._slot
        table = [n * sign * page for n in range(1, 17) for sign in (1, -1)]
        table += [n * sign * page for n in (1, 1, 1, 1, 1, 2, 2, 2, 3, 4) for sign in (1, -1)]
        table += [part * sign for part in (slot // 2, slot // 4, slot - page) for sign in (1, -1)]
        table += [page // 2, -1]
        return [0] * (256 - len(table)) + table

    def _make_plans(self) -> dict[str, tuple[_Step, ...]]:
        """The steps of each call, in the order in which operands depend on each other."""
        return {
            name: tuple(self._step(declared, step) for step in declared.record)
            for name, declared in CALLS.items()
        }

    def _step(self, declared: Syscall, step: meanings.Step) -> _Step:
        kind = declared.params[step.operand].kind
        if step.reads is _CHOICE:
            values = _spread(kind.choices(self.geometry))
            cap = self._cap(2)
            return _Step(step.operand, step.at, _CHOICE, values, step.that_fill, cap, step.unless)
        cap = self._cap(step.most_slots) if step.most_slots else WORD_MASK
        return _Step(step.operand, step.at, step.reads, _spread(step.modes), cap=cap)

    def _cap(self, slots: int) -> int:
        """How long a range may be that a call fills with pages: so many slots, but not too many."""
        return min(slots * self._slot, POPULATED_PAGES * self._page)

    # Reading

    def decode(self, data: bytes) -> Case:
        """The program that the bytes stand for.  Total: any bytes are a program.

        A last record that is not complete is filled up with zeros.
        """
        calls: list[Call] = []
        state = _State(self._arena, self._page)
        literals: dict[int, int] = {}
        opcodes, plans, blank = self.opcodes, self._plans, self._blank
        for at in range(0, len(data), WIDTH):
            record = data[at : at + WIDTH]
            if len(record) < WIDTH:
                record = record.ljust(WIDTH, b"\0")
            name = opcodes[record[0]]
            if not name:
                value = int.from_bytes(record[_LITERAL_AT : _LITERAL_AT + 8], "little")
                literals[record[1] % _OPERANDS] = value
                continue
            if len(calls) == self.max_calls:
                break
            if record[_MARK] != _EXACT:
                name = self._missing(name, state) or name
            args = blank[name].copy()
            if literals:
                _place(literals, name, args)
            state.begin(name)
            cap = WORD_MASK
            for step in plans[name]:
                operand = step[0]
                if literals and operand in literals:
                    self._given(step, args[operand], state)
                elif step[2] is _CHOICE:
                    if step[6] is None or not _has(args, step[6]):
                        args[operand] = step[3][record[step[1]]]
                else:
                    args[operand] = self._read(step, record, state, cap)
                if step[4] and args[operand] in step[4]:
                    cap = step[5]
            literals.clear()
            call = Call(name, tuple(args))
            calls.append(call)
            if name == "@limit" and not limits_are_in_place(calls):
                calls.pop()  # too late, or a second one
                continue
            state.note(name, call.args)
        return Case(tuple(calls))

    def _missing(self, name: str, state: _State) -> str:
        """The call that has to come before one of that name for it to do anything; or nothing."""
        if not state.mapped:
            return "" if name in _AT_ONCE else self._first
        needed = _PREPARED_BY[name]
        return needed if needed in self._names and not state.has_seen(needed) else ""

    def _read(self, step: _Step, record: bytes | bytearray, state: _State, cap: int) -> int:
        """The value of the operand in a field; the state is told of it."""
        _, at, what, table, _, limit, _ = step
        mode, index = table[record[at]], record[at + 1]
        delta = self._deltas[record[at + 2]]
        if what is _ADDRESS:
            value = self._address(mode, index, delta, state)
            if state.address < 0:
                state.address = value
            return value
        value = min(self._length(mode, index, delta, state), cap, limit)
        if what is _DOWNWARDS:
            value = min(value, state.address)
        state.size = value
        if what is _LENGTH:
            return value
        return (state.address + (value if what is _UPWARDS else -value)) & WORD_MASK

    def _given(self, step: _Step, value: int, state: _State) -> None:
        """Tell the state of an operand that a literal has given."""
        what = step.what
        if what is _ADDRESS:
            if state.address < 0:
                state.address = value
            holding = (r for r in reversed(state.mapped) if r[0] <= value < r[0] + r[1])
            state.hit = next(holding, (value, 0))
        elif what is _LENGTH:
            state.size = value
        elif what is not _CHOICE:
            size = value - state.address if what is _UPWARDS else state.address - value
            state.size = size & WORD_MASK

    def _address(self, mode: int, index: int, delta: int, state: _State) -> int:
        """An address from a field, in the arena; the state learns the mapping it refers to."""
        mapped = state.mapped
        if mapped:
            state.hit = start, length = mapped[-1 - _BACK[index & _RECENT] % len(mapped)]
        else:
            start = length = 0
            if mode < meanings.SPAN:
                mode = meanings.PMD
        if mode == meanings.ORIGIN:
            return start
        if mode == meanings.START:
            base = start
        elif mode == meanings.SPAN:
            return self._puds[index % len(self._puds)]
        elif mode == meanings.PMD:
            base = self._pmds[index % len(self._pmds)]
        elif mode == meanings.PUD:
            base = self._puds[index % len(self._puds)]
        elif mode == meanings.END:
            base = start + length
        elif mode == meanings.SLOT:
            first = round_up(start, self._slot)
            count = max((start + length - 1 - first) // self._slot + 1, 1)
            base = first + (index >> 3) % count * self._slot
        elif mode == meanings.INSIDE:
            base = start + ((length * (index >> 3) >> 5) & -self._page)
            delta = delta if start <= base + delta < start + length else 0
        elif mode in (meanings.ALIKE, meanings.ALIKE_PUD):
            near = state.address if state.address >= 0 else start
            if mode == meanings.ALIKE:
                base = self._pmds[index % len(self._pmds)] + near % self._slot
            else:
                base = self._puds[index % len(self._puds)] + near % self._pud
        elif mode == meanings.SHIFT:
            near = state.address if state.address >= 0 else start
            base = near + self._shifts[index >> 3]
        elif mode == meanings.BELOW:
            base = start - state.size
        elif mode == meanings.USED:
            used = state.earlier
            if used:
                state.hit = used[-1 - _BACK[index & _RECENT] % len(used)]
            base = state.hit[0]
        else:
            base = self._arena - state.size - (index & 1) * self._page
        if 0 <= base + delta <= self._arena:
            return base + delta
        return base if 0 <= base <= self._arena else self._low

    def _length(self, mode: int, index: int, delta: int, state: _State) -> int:
        """A length in bytes from a field; positive unless it is meant to be odd."""
        if mode == meanings.SIZE:
            return state.size
        if mode == meanings.SPANS:
            return meanings.PUD_COUNTS[index & 3] * self._pud
        if mode in (meanings.REST, meanings.REST_ABOUT):
            base = state.hit[0] + state.hit[1] - state.address
            if mode == meanings.REST and base > 0:
                return base
        elif mode == meanings.SLOTS:
            base = meanings.SLOT_COUNTS[index & 7] * self._slot
        elif mode == meanings.QUARTERS:
            base = (meanings.SLOT_COUNTS[index & 7] * 4 + (index >> 3 & 3)) * (self._slot // 4)
        elif mode == meanings.PAGES:
            base = meanings.PAGE_COUNTS[index & 15] * self._page
        elif mode == meanings.FEW:
            base = meanings.FEW_COUNTS[index & 7] * self._page
        elif mode == meanings.WHOLE:
            base = state.hit[1]
        elif mode == meanings.PUDS:
            base = meanings.PUD_COUNTS[index & 3] * self._pud
        elif mode == meanings.SLOT_END:
            base = -state.address % self._slot + (index & 3) * self._slot
        elif mode == meanings.PUD_END:
            base = -state.address % self._pud
        elif mode == meanings.SIZE_ABOUT:
            base = state.size
        elif mode == meanings.NEXT:
            above = [start for start, _ in state.mapped if start > state.address]
            base = min(above) - state.address if above else self._slot
        else:  # ODD
            base = self._odd[index & 7]
            return base + delta if 0 <= base + delta <= WORD_MASK and base else base
        if base <= 0:
            base = self._page
        return base + delta if 0 < base + delta <= WORD_MASK else min(base, WORD_MASK)

    # Writing

    def encode(self, case: Case) -> bytes:
        """Bytes that decode to the calls of the case, whatever this codec's `calls`.

        Decoding allows for no more than `max_calls` calls and only for the calls allowed to it.
        Errors raised: ValueError for an operand out of the bounds of its kind, and for a limit
        that is not in place.
        """
        if not limits_are_in_place(case.calls):
            raise ValueError("limits stand before all calls, each of them once")
        state = _State(self._arena, self._page)
        data = bytearray()
        for call in case.calls:
            data += self._encode_call(call, state)
            state.note(call.name, call.args)
        return bytes(data)

    def _encode_call(self, call: Call, state: _State) -> bytes:
        """The literals of a call, then its record."""
        for value, param in zip(call.args, CALLS[call.name].params, strict=True):
            if not param.kind.low <= value <= param.kind.high:
                raise ValueError(f"{call.name}: {param.name} {value:#x} is out of range")
        record = bytearray(WIDTH)
        record[0] = self._opcode_byte[call.name]
        record[_MARK] = _EXACT if self._missing(call.name, state) else 0
        state.begin(call.name)
        cap = WORD_MASK
        planned = {step.operand for step in self._plans[call.name]}
        blank = self._blank[call.name]
        literals = [i for i in range(len(blank)) if i not in planned and call.args[i] != blank[i]]
        for step in self._plans[call.name]:
            target = call.args[step.operand]
            unread = step.unless is not None and _has(call.args, step.unless)
            if unread and target == blank[step.operand]:
                continue
            if unread or not self._fit(step, target, record, state, cap):
                literals.append(step.operand)
                self._given(step, target, state)
            if target in step.populating:
                cap = step.cap
        return b"".join(self._literal_record(i, call.args[i]) for i in literals) + bytes(record)

    def _literal_record(self, operand: int, value: int) -> bytes:
        """The record that gives one operand of the next call its value."""
        written = (value & WORD_MASK).to_bytes(8, "little")
        return (bytes((self._literal, operand)) + written).ljust(WIDTH, b"\0")

    def _fit(self, step: _Step, target: int, record: bytearray, state: _State, cap: int) -> bool:
        """Fill in the bytes that are read as `target`; false if there are none.

        Of several the one with the smallest delta is taken, then the likeliest mode: the closer a
        field is to its meaning, the more of it survives a mutation of an earlier call.  Modes with
        many indexes are tried only if no other will do.
        """
        at = step.at
        if step.what is _CHOICE:
            if target not in step.table:
                return False
            record[at] = step.table.index(target)
            return True
        before = state.address, state.hit, state.size
        best: tuple[int, bytes] | None = None
        for mode, index, one_of_many in self._candidates(step, state):
            if one_of_many and best:
                break
            record[at : at + 3] = bytes((mode, index, 0))
            state.address, state.hit, state.size = before
            delta = target - self._read(step, record, state, cap)
            if step.what is _DOWNWARDS:
                delta = -delta
            if (best and abs(delta) >= best[0]) or delta not in self._delta_byte:
                continue
            record[at + 2] = self._delta_byte[delta]
            state.address, state.hit, state.size = before
            if self._read(step, record, state, cap) == target:
                best = abs(delta), bytes(record[at : at + 3])
                if not delta:
                    break
        state.address, state.hit, state.size = before
        record[at : at + 3] = best[1] if best else bytes(3)
        if best:
            self._read(step, record, state, cap)
        return best is not None

    def _candidates(self, step: _Step, state: _State) -> Iterator[tuple[int, int, bool]]:
        """Mode and index bytes worth trying: every mode of the step, every index that differs.

        The last ones, said so, are those of modes that have many.
        """
        many: list[int] = []
        recent = _RECENT + 1 if len(state.mapped) > 1 else 1
        used = _RECENT + 1 if len(state.earlier) > 1 else 1
        seen = -1
        for code, mode in enumerate(step.table):
            if mode == seen:
                continue
            seen = mode
            indexes: Iterable[int] = range(16)
            if step.what is _ADDRESS:
                if mode in (meanings.SLOT, meanings.INSIDE, meanings.SHIFT):
                    many.append(code)
                    continue
                if mode in (meanings.PMD, meanings.ALIKE):
                    indexes = range(len(self._pmds))
                elif mode in (meanings.PUD, meanings.ALIKE_PUD):
                    indexes = range(len(self._puds))
                else:
                    counts = {meanings.TOP: 2, meanings.USED: used}
                    indexes = range(counts.get(mode, recent))
            for index in indexes:
                yield code, index, False
        for code in many:
            for index in (which | k << 3 for k in range(32) for which in range(recent)):
                yield code, index, True


def _has(args: Sequence[int], wanted: tuple[int, int]) -> bool:
    """Has the operand at that position these bits?"""
    operand, bits = wanted
    return args[operand] & bits == bits


def _place(literals: dict[int, int], name: str, args: list[int]) -> None:
    """Put literals into the operands they are for; the rest of them mean nothing."""
    for operand, value in literals.items():
        if operand < len(args):
            kind = CALLS[name].params[operand].kind
            args[operand] = kind.low + (value - kind.low) % (kind.high - kind.low + 1)


@lru_cache(maxsize=64)
def codec(
    geometry: Geometry, calls: frozenset[str] | None = None, max_calls: int = MAX_CALLS
) -> Codec:
    """The codec with these arguments, made once."""
    return Codec(geometry, calls, max_calls)


def decode(
    data: bytes,
    geometry: Geometry,
    calls: frozenset[str] | None = None,
    max_calls: int = MAX_CALLS,
) -> Case:
    """The program that any bytes stand for; see `Codec`.  In a loop, keep a `Codec`."""
    return codec(geometry, calls, max_calls).decode(data)


def encode(case: Case, geometry: Geometry) -> bytes:
    """Bytes that `decode` reads as the calls of the case, on the same geometry; see `Codec`."""
    return codec(geometry).encode(case)

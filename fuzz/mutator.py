"""How inputs change from one execution to the next: by whole records of the byte form.

libFuzzer's own mutations insert and erase bytes, which shifts every record behind them and so makes
another program of it.  These keep the calls that they do not mean to change: they add, drop, copy
and swap calls, and change single bytes of one, each of which stands for an operand or a choice
(see `fuzz.wire`).  Measured by `pmdfuzz museum run`, see corpus/museum/README.md.
"""

import random
from collections.abc import Callable

from fuzz.wire import WIDTH

_MOST_AT_ONCE = 4  # changes
_USUAL_CALLS = 8  # longer programs tend to get shorter: most bugs need few calls, and each costs


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Another input, made from this one; at most `max_size` bytes.  Equal arguments, equal result."""
    rng = random.Random(seed)
    records = _records(data)
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, _MOST_AT_ONCE))):
        change = rng.choice(_CHANGES)
        if change in _LONGER and rng.randrange(2 * _USUAL_CALLS) < len(records):
            change = _drop
        change(records, rng)
    return b"".join(records)[:max_size]


def cross_over(one: bytes, other: bytes, max_size: int, seed: int) -> bytes:
    """The first calls of one input and the last of another; at most `max_size` bytes."""
    rng = random.Random(seed)
    head, tail = _records(one), _records(other)
    kept = head[: rng.randint(0, len(head))] + tail[rng.randint(0, len(tail)) :]
    return b"".join(kept)[:max_size]


def _records(data: bytes) -> list[bytes]:
    """The input cut into records, the last one filled up."""
    return [data[at : at + WIDTH].ljust(WIDTH, b"\0") for at in range(0, len(data), WIDTH)]


def _insert(records: list[bytes], rng: random.Random) -> None:
    """A call from nowhere; most bytes stand for something likely."""
    records.insert(rng.randint(0, len(records)), rng.randbytes(WIDTH))


def _append(records: list[bytes], rng: random.Random) -> None:
    records.append(rng.randbytes(WIDTH))


def _drop(records: list[bytes], rng: random.Random) -> None:
    if records:
        del records[rng.randrange(len(records))]


def _copy(records: list[bytes], rng: random.Random) -> None:
    if records:
        records.insert(rng.randint(0, len(records)), rng.choice(records))


def _swap(records: list[bytes], rng: random.Random) -> None:
    if records:
        i, j = rng.randrange(len(records)), rng.randrange(len(records))
        records[i], records[j] = records[j], records[i]


def _change(records: list[bytes], rng: random.Random) -> None:
    """One byte of a call."""
    if records:
        at = rng.randrange(len(records))
        record = bytearray(records[at])
        record[rng.randrange(WIDTH)] = rng.randrange(256)
        records[at] = bytes(record)


# Some stand here more than once: that is how often they are chosen.
_CHANGES: tuple[Callable[[list[bytes], random.Random], None], ...] = (
    _insert,
    _insert,
    _append,
    _append,
    _drop,
    _drop,
    _copy,
    _swap,
    _change,
    _change,
    _change,
    _change,
)
_LONGER = (_insert, _append, _copy)

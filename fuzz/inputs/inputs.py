"""What the fuzzer's inputs are: a program, and the geometry that it is for.

An input has one of two forms:

    spelled out   the calls, in the byte form of a program (`fuzz.forms.wire`); behind them, unless
                  the program is for the first geometry of the run, a byte that says for which
    planned       2 bytes version, 1 byte plan, 1 byte geometry, 8 bytes seed: a program made to a
                  plan (`fuzz.inputs.scene`, `.edges`, `.rows`)

Most new programs are made to a plan, and most of those are run once and forgotten: to write them
down would take longer than to run them.  One is spelled out when it is mutated, and when the corpus
is kept.  Any bytes are some program, as in `fuzz.forms.wire`.

A seed means another program as soon as a plan changes.  So the version is taken from the text of
the plans; a planned input of another version cannot be read any more (`Inputs.is_outdated`).
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import NamedTuple

from engine.base.geometry import GEOMETRIES, Geometry
from fuzz.case import Case
from fuzz.forms import wire
from fuzz.forms.wire import WIDTH
from fuzz.inputs import edges, rows, scene
from fuzz.lib.fingerprint import fingerprint

Records = list[bytes]  # of WIDTH bytes each
Plan = Callable[[Random, Geometry], Case]
PLANS: tuple[Plan, ...] = (scene.scene, edges.edge, rows.row)
_VERSION, _SEED = 2, 8  # bytes
PLANNED_BYTES = _VERSION + 2 + _SEED
assert PLANNED_BYTES % WIDTH > 1, "planned inputs are told by their length"
_SPELLED_KEPT = 512  # programs that are spelled out; libFuzzer mutates an input several times


def shared_out(geometry: Geometry) -> list[Geometry]:
    """Which geometries a run on one shares its programs out among: that one first.

    On smaller tables fewer pages fill one and fewer programs take long, so that the same bugs are
    found sooner; what takes 512 entries, as do batches and large folios, needs the real ones.
    """
    return [geometry, *(GEOMETRIES[name] for name in _SMALLER.get(geometry.name, ()))]


_SMALLER = {"x86-64": ("small",)}


@cache
def plans_version() -> bytes:
    """What the plans are made of, in two bytes: their text, that of the calls they make, and whose
    random numbers they use.
    """
    told = fingerprint(Path(__file__).parents[2], ("fuzz/inputs", "fuzz/calls"))
    return bytes.fromhex(told)[:_VERSION]


class Program(NamedTuple):
    """What an input stands for; `geometry` is a number among those of the run."""

    geometry: int
    case: Case


class Inputs:
    """The inputs of a run.

    Arguments: `geometries` that programs are for, the first one in inputs that do not say; `calls`
    and `max_calls` see `fuzz.forms.wire.Codec`.
    Errors raised: ValueError if `calls` is empty or names an unknown call.
    """

    def __init__(
        self,
        geometries: Sequence[Geometry],
        calls: frozenset[str] | None = None,
        max_calls: int = wire.MAX_CALLS,
    ) -> None:
        assert 0 < len(geometries) < 256
        self.geometries = tuple(geometries)
        self._codecs = [wire.codec(geometry, calls, max_calls) for geometry in geometries]
        self.opcodes = self._codecs[0].opcodes  # the same for all
        self._names = frozenset(self.opcodes)
        self._max_calls = max_calls
        self._spelled = lru_cache(_SPELLED_KEPT)(self._spell)

    def decode(self, data: bytes) -> Program:
        """What an input stands for.  Total: any bytes are a program."""
        if self._is_planned(data):
            return self._made(data)
        geometry, records = self._split(data)
        return Program(geometry, self._codecs[geometry].decode(records))

    def encode(self, case: Case, geometry: int) -> bytes:
        """The input, spelled out, that stands for the calls of a case on a geometry of the run.

        Errors raised: ValueError, see `fuzz.forms.wire.Codec.encode`.
        """
        return self._codecs[geometry].encode(case) + self._mark(geometry)

    def planned(self, plan: Plan, geometry: int, rng: Random) -> bytes:
        """A new input that is a plan."""
        return plans_version() + bytes((PLANS.index(plan), geometry)) + rng.randbytes(_SEED)

    def spelled_out(self, data: bytes) -> bytes:
        """The same program spelled out; the input itself if it is."""
        return self._spelled(data) if self._is_planned(data) else data

    def records(self, data: bytes) -> tuple[int, Records]:
        """The geometry and the calls of an input, the last record filled up; see `joined`."""
        geometry, rest = self._split(self.spelled_out(data))
        cut = (rest[at : at + WIDTH] for at in range(0, len(rest), WIDTH))
        return geometry, [record.ljust(WIDTH, b"\0") for record in cut]

    def joined(self, geometry: int, records: Iterable[bytes], max_size: int) -> bytes:
        """The input of these calls, without the last ones if it gets longer than `max_size`."""
        mark = self._mark(geometry)
        room = max(max_size - len(mark), 0) // WIDTH * WIDTH
        return (b"".join(records)[:room] + mark)[:max_size]

    def is_outdated(self, data: bytes) -> bool:
        """Was it made to a plan that has changed since, as far as its length tells?"""
        return len(data) == PLANNED_BYTES and not self._is_planned(data)

    @staticmethod
    def _is_planned(data: bytes) -> bool:
        return len(data) == PLANNED_BYTES and data[:_VERSION] == plans_version()

    def _made(self, data: bytes) -> Program:
        """The program of a planned input, without calls that are not wanted."""
        geometry = data[_VERSION + 1] % len(self.geometries)
        plan = PLANS[data[_VERSION] % len(PLANS)]
        case = plan(Random(data[_VERSION + 2 :]), self.geometries[geometry])
        calls = [call for call in case.calls if call.name in self._names]
        return Program(geometry, case.with_calls(calls[: self._max_calls]))

    def _spell(self, data: bytes) -> bytes:
        geometry, case = self._made(data)
        return self.encode(case, geometry)

    def _split(self, data: bytes) -> tuple[int, bytes]:
        """Geometry and records of an input that is spelled out."""
        if len(data) % WIDTH != 1:
            return 0, data
        return data[-1] % len(self.geometries), data[:-1]

    @staticmethod
    def _mark(geometry: int) -> bytes:
        return bytes((geometry,)) if geometry else b""

"""What a program that runs cases is told, and what it says: lines, see README.md in this folder.

Both ends of the conversation are here: lines as they are sent and read by whoever asks (`encode`,
`Hello.parse`), and by a subject written in Python (`decode`, `Hello.line`).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.base.address import WORD_MASK
from engine.base.geometry import GEOMETRIES, Geometry, geometry_named
from fuzz.calls.actors import PREFIX
from fuzz.calls.arena import Arena
from fuzz.calls.registry import CALLS, as_made, operands, untagged
from fuzz.calls.syscall import Makes
from fuzz.case import Call
from fuzz.subjects.subject import EXEC, Abilities

VERSION = 1  # of the protocol
_WORD_BITS = {"x86-64": 64, "i386": 32, "arm64": 64}  # by architecture
_SKIP = "skip"
_UNLOCKED = "unlocked"
_NEEDED = {
    "arch": str,
    "release": str,
    "version": str,
    "page_bytes": int,
    "user_top": int,
    "arena": list,
    "calls": list,
    "flags": dict,
    "fields": list,
    "locks": bool,
    "root": bool,
}
_OPTIONAL = {
    "levels": int,
    "keys": bool,
    "geometry": str,
    "model": str,
    "commit_limit": int,
    "emulated": bool,
}


class ProtocolError(ValueError):
    """A line that is not as the protocol has it; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a subject says of itself before anything else; fields as in README.md.

    Addresses and sizes are bytes; `flags` names, by call, what it cannot be asked for.  Optional
    are: `levels` of its page tables, 0 if it does not know; `keys` whether memory that may only be
    executed cannot be read; `geometry` and `model` the names of what is modelled; `commit_limit`
    the most memory that one call may ask for, None: there is no limit; `emulated` whether a program
    stands for the kernel (fuzz/agent/emulated.c).
    """

    arch: str
    release: str
    version: str
    page_bytes: int
    user_top: int
    arena: tuple[int, int]
    calls: frozenset[str]
    flags: Mapping[str, frozenset[str]]
    fields: frozenset[str]
    locks: bool
    root: bool
    levels: int = 0
    keys: bool = False
    geometry: str = ""
    model: str = ""
    commit_limit: int | None = field(default=None)
    emulated: bool = False

    @staticmethod
    def parse(said: Mapping[str, Any]) -> "Hello":
        """The hello of a line, which may have more fields than are known here.

        Errors raised: ProtocolError.
        """
        if said.get("hello") != VERSION:
            raise ProtocolError(
                f"it speaks version {said.get('hello')!r} of the protocol, this is {VERSION}"
            )
        for name, kind in (_NEEDED | _OPTIONAL).items():
            value = said.get(name)
            if value is None and name in _OPTIONAL:
                continue
            if type(value) is not kind:
                raise ProtocolError(f"its hello has {name!r}: {value!r}, not a {kind.__name__}")
        if said["arch"] not in _WORD_BITS and not said.get("geometry"):
            raise ProtocolError(f"unknown architecture {said['arch']!r}")
        known = {name: said[name] for name in (*_NEEDED, *_OPTIONAL) if said.get(name) is not None}
        return Hello(
            **known
            | {
                "arena": tuple(said["arena"]),
                "calls": frozenset(said["calls"]),
                "flags": {call: frozenset(names) for call, names in said["flags"].items()},
                "fields": frozenset(said["fields"]),
            }
        )

    def line(self) -> str:
        """As it is said."""
        plain = {name: value for name, value in asdict(self).items() if value not in ("", None)}
        for name in ("calls", "fields"):
            plain[name] = sorted(plain[name])
        plain["flags"] = {call: sorted(names) for call, names in self.flags.items()}
        return json.dumps({"hello": VERSION, **plain}) + "\n"

    @property
    def kernel_name(self) -> str:
        """The name of the model of its kernel, whether there is one or not."""
        return self.model or f"linux-{version(self.release, self.version)}"

    def page_tables(self) -> Geometry:
        """The geometry that it runs on.  Errors raised: ProtocolError if none is like that."""
        if self.geometry:
            return geometry_named(self.geometry)
        like = [
            geometry
            for geometry in GEOMETRIES.values()
            if geometry.page_bytes == self.page_bytes
            and geometry.user_top == self.user_top
            and geometry.word_bits == _WORD_BITS[self.arch]
            and geometry.name.startswith(self.arch)
            and geometry.exec_only_keys == self.keys
            and self.levels in (0, geometry.levels)
        ]
        if not like:
            raise ProtocolError(
                f"no geometry of {self.arch} has pages of {self.page_bytes} bytes, "
                f"{self.levels or 'any number of'} levels and user space up to {self.user_top:#x}"
            )
        return max(like, key=lambda one: (one.levels, one.arena.length == self.arena[1]))

    def abilities(self) -> Abilities:
        """Which programs it can run.  Errors raised: ProtocolError."""
        geometry = self.page_tables()
        start, size = self.arena
        if start != geometry.arena.start:
            raise ProtocolError(
                f"its arena begins at {start:#x}, that of {geometry.name} at "
                f"{geometry.arena.start:#x}"
            )
        reach = None if size >= geometry.arena.end - start else size
        # An exec is for those alone who ask for it, see `Subject.able_for`: it takes very long.
        calls = self.calls - {EXEC} if self.execs else self.calls
        return Abilities(calls, self.locks, self.flags, reach, all_failures=bool(self.model))

    @property
    def execs(self) -> bool:
        """Does it make a real exec?"""
        return EXEC in self.calls and not self.model


def version(release: str, more: str) -> str:
    """The kernel's version, of what `uname -r` and `uname -v` print.

    Distributions may stay at 6.1.0-N in the first.  Debian has the point release in the second;
    with others nothing is left but the series.
    """
    if found := re.search(r"Debian (\d+\.\d+\.\d+)", more):
        return found[1]
    found = re.match(r"(\d+\.\d+)(?:\.0-\d|(\.\d+))?", release)
    return (found[1] + (found[2] or "")) if found else release


# --- Programs -------------------------------------------------------------------------------------


def encode(name: str, calls: Iterable[Call], geometry: Geometry, able: Abilities) -> bytes:
    """A program as a subject reads it: one line.

    What leaves the arena, and what the subject is not `able` to do, is to be skipped: that is
    decided here, by the rule that the model follows.
    """
    told = (_told(call, geometry, able) for call in calls)
    return f"{name}\t{';'.join(told)}\n".encode()


def _told(call: Call, geometry: Geometry, able: Abilities) -> str:
    if call.name not in able.calls or able.flags_missing(call):
        return _SKIP
    declared = CALLS[call.name]
    # What another process does in its place may be anywhere.
    arena = Arena.of(geometry.whole if declared.made_by is Makes.EXEC else geometry)
    call = as_made(call, geometry)
    args = operands(arena, declared, untagged(call, geometry).args)
    if not declared.may_run(arena, *args):
        return _SKIP
    is_conditional = declared.unless_locked and declared.unless_locked(arena, *args)
    condition = f"{_UNLOCKED} {args[0]:x} " if is_conditional else ""
    made = operands(arena, declared, call.args)
    return condition + " ".join((call.name, *(f"{arg & WORD_MASK:x}" for arg in made)))


def decode(line: str, geometry: Geometry) -> tuple[str, tuple[Call, ...]]:
    """Name and calls of a program, of a line without its end.

    Errors raised: ProtocolError.
    """
    name, tab, program = line.partition("\t")
    if not tab:
        raise ProtocolError("no TAB behind the name")
    return name, tuple(_call(text, geometry) for text in program.split(";") if text)


def _call(text: str, geometry: Geometry) -> Call:
    words = text.split()
    if words[0] == _UNLOCKED:
        words = words[2:]  # the model finds out for itself
    if words == [_SKIP]:
        return Call("touch", (geometry.arena.end - geometry.arena.start, 1))  # outside: skipped
    long = len(words) > 1 and words[0] == PREFIX.rstrip()
    name, given = " ".join(words[: 1 + long]), words[1 + long :]
    declared = CALLS.get(name)
    if declared is None:
        raise ProtocolError("unknown call")
    try:
        args = [int(word, 16) for word in given]
    except ValueError:
        raise ProtocolError("wrong operands") from None
    if len(args) != len(declared.params):
        raise ProtocolError("wrong operands")
    for index, param in enumerate(declared.params):
        if index in declared.addresses:
            args[index] = (args[index] - geometry.arena.start) & geometry.word_mask
        elif param.kind.low < 0 and args[index] > param.kind.high:
            args[index] -= WORD_MASK + 1
    return Call(name, tuple(args))

"""A log of strace as events: calls that have returned, whole or in two halves, signals, ends.

Only its lines are understood here, not what calls mean.  Forms: those of strace 6.1, 6.13 and 7.2,
with -f, -o, -ff, -n, -i, -k, -r, -t, -T, -Y and others that put something before or behind a call.
Whatever else stands in a log (stack traces, tables, what the program has printed) is passed over.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

MAX_PID = 1 << 22  # of the kernel, PID_MAX_LIMIT; a greater number is a time

_LINE = re.compile(
    r"""\s*
    (?:\[pid\s+(?P<pid>\d{1,20})(?:<.*?>)?\]\ +|(?P<first>\d{1,20})(?:<\S[^>]*>)?\ +)?
    (?:(?:\d+:\d\d:\d\d(?:\.\d+)?|\d+\.\d+|\d{9,}|\(\+\s*\d+\.\d+\))\ +)*
    (?:\[\s*\d+\]\ +)?                                # -n
    (?:\[[0-9a-f?]{8,}\]\ +)?                         # -i
    (?:(?P<name>\w+)\(
      |<\.\.\.\ (?P<resumed>\w+)\ resumed>
      |---\ (?P<signal>\w+)\ ?
      |\+\+\+\ (?P<end>exited|killed|superseded)\b
      |\S+:\ Process\ (?P<attached>\d{1,20})\ (?:attached|detached)
    )""",
    re.X | re.A,
)
# On a terminal, what the program writes and does not end may stand before the rest of its write.
_REST = "<... write resumed>"
_BEHIND_OUTPUT = re.compile(rf"\[pid\s+\d+(?:<.*?>)?\] {re.escape(_REST)}")
_RETURNED = re.compile(r"(?P<operands>.*)\)\s+= (?P<result>.*?)(?: <\d+\.\d+>)?\s*", re.S)
_UNFINISHED = " <unfinished ...>"
_ATTACHED = re.compile(r"(?:[./][\w./+-]*)?strace: Process (\d{1,20}) attached$")
_CHANGED = re.compile(r" <pid changed to \d+ \.\.\.>$")


class Place(NamedTuple):
    """A line of a log: its number, from 1, its text, and the column, from 1, that is meant."""

    line: int
    text: str
    column: int = 1


class Returned(NamedTuple):
    """A call that has returned: operands and result as text.

    `pid` 0: the log does not say; `began` is the number of the line on which it began.
    """

    at: Place
    pid: int
    name: str
    operands: str
    result: str
    began: int = 0


class Begun(NamedTuple):
    """The first half of a call, with what operands are there."""

    at: Place
    pid: int
    name: str
    operands: str


class Signal(NamedTuple):
    """A signal that arrives; `text` are its details in braces."""

    at: Place
    pid: int
    name: str
    text: str


class Attached(NamedTuple):
    """A thread that strace follows from here on."""

    at: Place
    pid: int


class Ended(NamedTuple):
    """A thread that has ended."""

    at: Place
    pid: int


class Unreadable(NamedTuple):
    """A call that is there, and not all of it: no result, or a second half alone."""

    at: Place
    pid: int
    name: str


Event = Returned | Begun | Signal | Attached | Ended | Unreadable


@dataclass(slots=True)
class Log:
    """A log that is being read.

    Arguments: `wanted` the names of the calls that are looked at; those that begin otherwise than
    with one are passed over.
    Fields: `lines` read so far; `known` how many of them are strace's own.
    """

    wanted: frozenset[str]
    lines: int = 0
    known: int = 0
    _halves: dict[int, Begun] = field(default_factory=dict)

    def events(self, lines: Iterable[str]) -> Iterator[Event]:
        """The events of a log, in its order, while its lines come in."""
        begun, first, attached = 0, "", 0
        for number, text in enumerate(lines, 1):
            self.lines = number
            text = text.rstrip("\n")
            if first:  # the rest of a line that was cut in two
                text, at_line, first = first + text, begun, ""
            else:
                at_line = number
            if text.endswith(" attached") and (found := _ATTACHED.search(text)):
                # strace says so where it is, which may be within the line of another thread.
                first, begun, attached = text[: found.start()], at_line, int(found[1])
                if not _LINE.match(first):
                    first = ""
                    yield Attached(Place(at_line, text), attached)
                continue
            yield from self._read(at_line, text)
            if attached:
                yield Attached(Place(at_line, text), attached)
                attached = 0
        if first:
            yield from self._read(begun, first)
        for half in self._halves.values():
            yield Unreadable(half.at, half.pid, half.name)
        self._halves.clear()

    def _read(self, line: int, text: str) -> Iterator[Event]:
        """What a whole line says."""
        if _REST in text and (behind := _BEHIND_OUTPUT.search(text)):
            text = text[behind.start() :]
        if self._is_passed_over(text):
            self.known += 1
            return
        match = _LINE.match(text)
        if match is None:
            return
        self.known += 1
        name = match["name"]
        if name is not None and name not in self.wanted:
            return
        pid = int(match["pid"] or match["first"] or 0)
        pid = pid if pid <= MAX_PID else 0
        at = Place(line, text, match.end() + 1)
        rest = text[match.end() :]
        match match.lastgroup:
            case "name":
                yield self._call(at, pid, match["name"], rest)
            case "resumed":
                if match["resumed"] in self.wanted:
                    yield self._second_half(at, pid, match["resumed"], rest)
            case "signal":
                yield Signal(at, pid, match["signal"], rest)
            case "attached":
                yield Attached(at, int(match["attached"]))
            case _:
                half = self._halves.pop(pid, None)
                if half is not None:
                    yield Unreadable(half.at, pid, half.name)
                yield Ended(at, pid)

    def _is_passed_over(self, text: str) -> bool:
        """The quick answer for most lines: is it a call, and of a name that nobody wants?"""
        before = text.partition("(")[0]
        name = before[before.rfind(" ") + 1 :]
        return name.isidentifier() and len(before) < len(text) and name not in self.wanted

    def _call(self, at: Place, pid: int, name: str, rest: str) -> Event:
        if rest.endswith(_UNFINISHED):
            begun = Begun(at, pid, name, rest.removesuffix(_UNFINISHED))
            self._halves[pid] = begun
            return begun
        if found := _CHANGED.search(rest):  # execve of a thread that is not the first
            return Begun(at, pid, name, rest[: found.start()])
        match = _RETURNED.fullmatch(rest)
        if match is None:
            return Unreadable(at, pid, name)
        return Returned(at, pid, name, match["operands"], match["result"], at.line)

    def _second_half(self, at: Place, pid: int, name: str, rest: str) -> Event:
        # Beside the program's own output, a thread has a number only while there are several.
        half = self._halves.pop(pid if pid in self._halves else 0, None)
        if half is None and not pid and len(self._halves) == 1:
            half = self._halves.popitem()[1]
        if half is None or half.name != name:
            # That of execve has nothing that is needed from the first.
            half = Begun(at, pid, name, "") if name == "execve" else None
        match = _RETURNED.fullmatch(half.operands + rest) if half is not None else None
        if half is None or match is None:
            return Unreadable(at, pid, name)
        return Returned(half.at, pid, name, match["operands"], match["result"], at.line)

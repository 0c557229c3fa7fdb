"""Who of a traced program works in which address space, and what each of them does there.

A fork copies an address space, a thread and the child of vfork work in the one of their parent,
execve begins a new one.  A log that shows neither of these calls cannot be cut right; processes
that come from nowhere are told.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from engine.base.kernel import Kernel
from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, PROT_READ, PROT_WRITE
from fuzz.case import CaseError
from fuzz.forms.lexical import Wrong
from fuzz.strace import values
from fuzz.strace.exported import Exported, introduced
from fuzz.strace.imported import Imported, count, uncount
from fuzz.strace.lines import (
    Attached,
    Begun,
    Ended,
    Event,
    Log,
    Place,
    Returned,
    Signal,
    Unreadable,
)
from fuzz.strace.program import FAULTS, Program, Source, Space
from fuzz.strace.steps import (
    MADE_BEFORE,
    PAGE,
    READERS,
    STRANGERS,
    Inexpressible,
    Step,
    features,
    registered,
    up,
    write_protected,
)
from fuzz.strace.written import PIECE, Lines, written

CLONES = ("clone", "clone2", "clone3", "fork", "vfork")
WANTED = frozenset(
    {*READERS, *STRANGERS, *CLONES, "execve", "execveat", "brk", "userfaultfd", "ioctl", "write"}
)
ADVICE = "trace with -f -o LOG -e trace=%memory,execve,clone,clone3,fork,vfork"
ACCESSES = "accesses to what was mapped (strace shows none; --no-touch: leave them out)"
UNNAMED = "files of a program that has more than a case can, as memory without one"
_CLONE_VM = 0x100
_FLAGS = re.compile(r"flags=([^,}]+)")
_FIRST_WORD = re.compile(r"(0x[0-9a-f]+)")
_OP = re.compile(r"(?:fd=)?(\d{1,10})(?:<.*?>)?, (?:op=)?(UFFDIO_\w+)")
_FAULT = re.compile(r"si_code=(?:SEGV_(?:MAP|ACC)ERR|0x[12]\b).*?, si_addr=(0x[0-9a-f]+|NULL)")
_PTRACE = re.compile(r"\(0x[0-9a-f]{16}\)$|^-(?!1 )\d+ E[A-Z]+ \(|<[A-Z_|]+> \(\d+\)")
_FIRST = 1024  # of what a process does: an exported program has said by then that it is one
_TOLD = 100  # columns of a line that is shown


@dataclass(slots=True)
class Reader:
    """A log on its way to programs.

    Arguments: `file` what the log is called; `stem` how its cases are; `kernel` the model on which
    results must come about; `touching` whether programs write to what they have mapped; `within`
    the addresses that are of interest, None: all.
    """

    file: str
    stem: str
    kernel: Kernel
    touching: bool
    within: tuple[int, int] | None = None
    imported: Imported = field(default_factory=Imported)
    log: Log = field(default_factory=lambda: Log(WANTED))
    _spaces: dict[int, Space] = field(default_factory=dict)  # by thread
    _parents: dict[int, Space] = field(default_factory=dict)  # whose pages a process shares, by id
    _cloning: dict[int, Begun] = field(default_factory=dict)  # who is in the middle of a fork
    _exported: dict[int, Exported] = field(default_factory=dict)  # by id of their space
    _writing: dict[int, Lines] = field(default_factory=dict)  # by thread, of other programs
    # What to do if an address space turns out to be that of an exported program, by its id.
    _undo: dict[int, list[Callable[[], None]]] = field(default_factory=dict)
    _names: dict[int, int] = field(default_factory=dict)  # how many address spaces a process had
    _ready: list[Program] = field(default_factory=list)

    def programs(self, lines: Iterable[str]) -> Iterator[Program]:
        """The programs of a log, each as soon as it is complete.

        Errors raised: CaseError for what is no log of strace, with line and column.
        """
        for event in self.log.events(lines):
            self._take(event)
            if self._ready:
                yield from self._counted()
        for space in {id(space): space for space in self._spaces.values()}.values():
            self._end(space)
        self._spaces.clear()
        yield from self._counted()
        if not self.log.known:
            raise CaseError("no line of this is strace's", file=self.file)

    def _counted(self) -> Iterator[Program]:
        """The programs that are ready, which then count."""
        for program in self._ready:
            self.imported.programs += 1
            if program.touches:
                count(self.imported.assumed, ACCESSES, number=program.touches)
            if program.unnamed:
                count(self.imported.changed, UNNAMED, number=program.unnamed)
            for source, got in program.left_out:
                kind = f"a result that does not come about on {self.kernel.name}"
                count(self.imported.left_out, kind, f"{self._told(source)}, and not {got}")
            yield program
        self._ready.clear()

    # --- Events -----------------------------------------------------------------------------------

    def _take(self, event: Event) -> None:
        match event:
            case Returned():
                self._returned(event)
            case Begun(_, pid, name) if name in CLONES:
                self._space(pid)
                self._cloning[pid] = event
            case Begun():
                pass
            case Attached(_, pid):
                if self._cloning and pid not in self._spaces:
                    self._space(pid)
            case Signal(at, pid, "SIGSEGV", text):
                self._fault(at, pid, text)
            case Ended(_, pid):
                self._gone(pid)
            case Unreadable(at, pid, "write"):  # on a terminal what it writes stands behind it
                source = Source(at.line, at.text)
                self._written(pid, source, at.text[at.column - 1 :] + "\n", "")
            case Unreadable(at, pid, name):
                if name in READERS:
                    kind = f"{name} of which the log has a part"
                    count(self.imported.left_out, kind, self._told(Source(at.line, at.text)))

    def _returned(self, event: Returned) -> None:
        at, pid, name = event.at, event.pid, event.name
        if _PTRACE.search(event.result):
            raise CaseError(
                "this is a log of python-ptrace's strace.py, which writes other things; use strace",
                at.line,
                at.column,
                at.text,
                self.file,
            )
        source = Source(at.line, at.text)
        if name == "write":
            self._written(pid, source, event.operands, event.result)
            return
        try:
            value = values.result(event.result)
            if value.injected or (value.value is None and not value.failed):
                if name in READERS:
                    kind = "a call that the kernel did not run, or that did not return"
                    count(self.imported.left_out, kind, self._told(source))
                return
            if name in CLONES:
                self._cloned(event, value)
            elif name in ("execve", "execveat"):
                if not value.failed:
                    self._executed(pid)
            elif exported := self._exported.get(id(self._space(pid))):
                if name in READERS:
                    exported.made(name, event.operands, value, source)
            elif name == "brk":
                self._brk(pid, source, event, value)
            elif name in ("userfaultfd", "ioctl"):
                self._userfault(pid, source, event, value)
            elif name in STRANGERS:
                raise Inexpressible(f"{name} ({STRANGERS[name]})")
            else:
                self._add(pid, READERS[name](event.operands, value), source)
        except Inexpressible as why:
            count(self.imported.left_out, str(why), self._told(source))
        except values.Unknown as unknown:
            count(self.imported.left_out, f"{unknown}, which is not known", self._told(source))
        except Wrong as wrong:
            raise CaseError(
                f"{name} is not as strace writes it: {wrong.why}",
                at.line,
                at.column,
                at.text,
                self.file,
            ) from None

    def _add(self, pid: int, step: Step, source: Source) -> None:
        """A call that is understood."""
        space = self._space(pid)
        if self.within is not None and not self.within[0] <= step.args[0] < self.within[1]:
            return
        if step.file:
            step = step._replace(file=space.file_of(step))
        self._suppose(space, step, source)
        if step.note:
            self._note(space, self.imported.changed, step.note, source)
        if step.args != step.made and step.made:
            kind = "a place that the kernel chose, named where the model chooses another"
            self._note(space, self.imported.changed, kind, source)
        why = space.add(step, source)
        if why:
            self._note(space, self.imported.left_out, why, source)
        else:
            self.imported.calls[step.name] += 1
            self._may_undo(space, partial(self.imported.calls.subtract, (step.name,)))

    def _note(
        self, space: Space, kinds: dict[str, tuple[int, str]], kind: str, source: Source
    ) -> None:
        """Count what may turn out to be the beginning of an exported program."""
        count(kinds, kind, self._told(source))
        self._may_undo(space, partial(uncount, kinds, kind))

    def _may_undo(self, space: Space, how: Callable[[], None]) -> None:
        undo = self._undo.setdefault(id(space), [])
        if len(undo) < _FIRST:
            undo.append(how)

    def _suppose(self, space: Space, step: Step, source: Source) -> None:
        """Have what must have been mapped before the log, or by what it does not show."""
        if isinstance(step.result, str) or step.name not in MADE_BEFORE or len(step.args) < 2:
            return
        start, length = step.args[0] // PAGE * PAGE, up(step.args[1])
        if step.name == "mremap":  # which may move several mappings and what is between them
            holes = space.mappings.holes(start, start + max(length, PAGE))[:1]
            holes = [hole for hole in holes if hole[0] == start]
        else:
            holes = space.mappings.holes(start, start + length)
        for low, high in holes:
            if high - low > 1 << 40:
                continue
            flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
            args = (low, high - low, PROT_READ | PROT_WRITE, flags, -1, 0)
            if not space.add(Step("mmap", args, low, ((low, high),)), source):
                kind = "memory that the log does not map, as private and writable"
                self._note(space, self.imported.assumed, kind, source)

    def _brk(self, pid: int, source: Source, event: Returned, value: values.Value) -> None:
        """The heap: its growth is a mapping, too."""
        space = self._space(pid)
        before, space.brk = space.brk, value.value
        if before is None or value.value is None or value.failed:
            return
        low, high = up(before), up(value.value)
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        if low < high:
            args = (low, high - low, PROT_READ | PROT_WRITE, flags, -1, 0)
            step = Step("mmap", args, low, ((low, high),), note="brk, as mmap or munmap")
        elif high < low:
            step = Step(
                "munmap", (high, low - high), 0, ((high, low),), note="brk, as mmap or munmap"
            )
        else:
            return
        self._add(pid, step, source)

    def _userfault(self, pid: int, source: Source, event: Returned, value: values.Value) -> None:
        space = self._space(pid)
        if event.name == "userfaultfd":
            return
        match = _OP.match(event.operands)
        if match is None:
            return
        fd, op = int(match[1]), match[2]
        if op == "UFFDIO_API":
            if not value.failed:
                space.asked[fd] = features(event.operands)
        elif op == "UFFDIO_REGISTER":
            self._add(pid, registered(event.operands, space.asked.get(fd, 0), value), source)
        elif op == "UFFDIO_WRITEPROTECT":
            self._add(pid, write_protected(event.operands, value), source)
        else:
            raise Inexpressible(op)

    def _fault(self, at: Place, pid: int, text: str) -> None:
        """An access that ended in a signal: where the model faults, too, it is an access."""
        source, space = Source(at.line, at.text), self._space(pid)
        if id(space) in self._exported:
            return
        match = _FAULT.search(text)
        if match is None:
            count(self.imported.left_out, "SIGSEGV of no address", self._told(source))
            return
        page = values.number(match[1]) // PAGE * PAGE
        there = list(space.mappings.over(page, page + PAGE))
        if any(each.kind.prot & PROT_WRITE for each in there) or not len(space.mappings):
            kind = "SIGSEGV where the log has no reason for it"
            count(self.imported.left_out, kind, self._told(source))
            return
        self._add(pid, Step("touch", (page, PAGE), FAULTS, ((page, page + PAGE),)), source)

    # --- Exported programs ---

    def _written(self, pid: int, source: Source, operands: str, result: str) -> None:
        """What a thread has written: an exported program tells of its calls so."""
        space = self._space(pid) if self._exported else None
        exported = self._exported.get(id(space))
        lines = exported.lines if exported else self._writing.setdefault(pid, Lines())
        write = written(operands, result)
        if write is None:
            return
        if write.is_cut:
            if write.text.startswith(("pmdfuzz ", "# pmdfuzz ")) and write.length <= PIECE:
                why = f"an exported program's words are cut off: trace it with -s {PIECE} or more"
                raise CaseError(why, source.line, 1, source.text, self.file)
            lines.clear()
            return
        for line in lines.add(write.text):
            try:
                found = introduced(line)
            except Wrong as wrong:
                raise CaseError(wrong.why, source.line, 1, source.text, self.file) from None
            if found is not None:
                space = self._space(pid)
                self._introduced(space, Exported(*found, self.file, self.imported))
                exported = self._exported.get(id(space))
            elif exported is not None:
                exported.told(line, Source(source.line, line))

    def _introduced(self, space: Space, exported: Exported) -> None:
        """It is an exported program: what it has done so far is none of the case's."""
        if self.within is not None and not self.within[0] <= exported.base < self.within[1]:
            return
        self._exported[id(space)] = exported
        space.forget()
        for undo in self._undo.pop(id(space), ()):
            undo()

    def _end(self, space: Space) -> None:
        """Nothing comes behind in an address space."""
        self._undo.pop(id(space), None)
        exported = self._exported.pop(id(space), None)
        if exported is None:
            space.end()
        elif (program := exported.program(f"{space.name}-001", self.kernel)) is not None:
            self._ready.append(program)

    # --- Who is where -----------------------------------------------------------------------------

    def _space(self, pid: int) -> Space:
        """Where a thread works; one that is new is a child of whoever is just making one.

        On a terminal's log threads have a number only while there are several.
        """
        if not pid and pid not in self._spaces:
            named = {id(space): space for number, space in self._spaces.items() if number}
            if len(named) == 1:
                return next(iter(named.values()))
        space = self._spaces.get(pid)
        if space is not None:
            return space
        if pid and self._cloning:
            parent, begun = self._cloning.popitem()
            return self._child(self._space(parent), pid, begun.name, begun.operands, begun.at)
        if pid and 0 in self._spaces:
            space = self._spaces[pid] = self._spaces.pop(0)
            return space
        if self._names:
            kind = f"processes of which nobody sees who made them; {ADVICE}"
            count(self.imported.assumed, kind, f"{self.file}:{self.log.lines}")
        self._spaces[pid] = self._new(pid)
        return self._spaces[pid]

    def _new(self, pid: int) -> Space:
        """An address space in which nothing is mapped."""
        return Space(self._name(pid), self._ready.append, self.kernel, self.touching)

    def _name(self, pid: int) -> str:
        self._names[pid] = self._names.get(pid, 0) + 1
        self.imported.processes += 1
        of = f"-{pid}" if pid else ""
        again = f".{self._names[pid]}" if self._names[pid] > 1 else ""
        return f"{self.stem}{of}{again}"

    def _cloned(self, event: Returned, value: values.Value) -> None:
        parent = self._space(event.pid)
        pending = self._cloning.pop(event.pid, None)
        child = value.value or 0
        if value.failed or child in self._spaces or (event.began != event.at.line and not pending):
            return
        self._child(parent, child, event.name, event.operands, event.at)

    def _child(self, parent: Space, pid: int, name: str, operands: str, at: Place) -> Space:
        if _shares(name, operands):
            self._spaces[pid] = parent
            return parent
        source = Source(at.line, at.text)
        if id(parent) not in self._exported and not parent.add(Step("fork", (), 0), source):
            self.imported.calls["fork"] += 1
        parent.children += 1
        space = self._spaces[pid] = parent.copy(self._name(pid))
        self._parents[id(space)] = parent
        if id(parent) in self._exported:
            self._exported[id(space)] = self._exported[id(parent)].copy()
        return space

    def _executed(self, pid: int) -> None:
        """execve leaves an address space, which ends with whoever works in it last."""
        self._gone(pid)
        self._spaces[pid] = self._new(pid)

    def _gone(self, pid: int) -> None:
        if not pid and pid not in self._spaces and len(self._spaces) == 1:
            pid = next(iter(self._spaces))
        space = self._spaces.pop(pid, None)
        self._cloning.pop(pid, None)
        if space is None or any(each is space for each in self._spaces.values()):
            return
        parent = self._parents.pop(id(space), None)
        if parent is not None:
            parent.children -= 1
            is_left = any(each is parent for each in self._spaces.values())
            if not parent.children and is_left and id(parent) not in self._exported:
                parent.add(Step("exit_child", (), 0), Source(self.log.lines, ""))
        self._end(space)

    def _told(self, source: Source) -> str:
        text = source.text.strip()
        shown = text if len(text) <= _TOLD else text[: _TOLD - 3] + "..."
        return f"{self.file}:{source.line}: {shown}"


def _shares(name: str, operands: str) -> bool:
    """Does the child work in its parent's address space?"""
    if name in ("fork", "vfork"):
        return name == "vfork"
    if "CLONE_VM" in operands:
        return True
    match = _FLAGS.search(operands)
    if match is not None and match[1].startswith("0x"):
        return bool(values.flags(match[1], {}) & _CLONE_VM)
    if match is None and name == "clone3":
        return True  # a pointer: what makes threads, mostly
    if match is None and (word := _FIRST_WORD.match(operands)):
        return bool(int(word[1], 16) & _CLONE_VM)
    return False

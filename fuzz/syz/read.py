"""Programs of syzkaller as cases: reproducers, and logs of what it has executed.

Calls that cases do not have are counted; of those that they have, the operands may be written in
any form that syzkaller reads.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from engine.base.address import WORD_MASK
from engine.base.geometry import GEOMETRIES
from engine.base.kernel import Kernel
from engine.base.uapi import MADV_HWPOISON, MADV_SOFT_OFFLINE
from fuzz.calls.registry import CALLS
from fuzz.case import MAX_CALLS, Call, Case, CaseError
from fuzz.execute import execute
from fuzz.strace.imported import Imported, count
from fuzz.strace.steps import as_memory, names_target
from fuzz.syz.area import AT, BASE, MAPPED, SIZE, UNMAPPED
from fuzz.syz.write import CALLED

_CALL = re.compile(r"\s*(?:(?P<result>r\d+)\s*=\s*)?(?P<name>\w+)(?:\$\w+)?\(")
_EXECUTING = re.compile(r".*executing program\b")
_ADDRESS = re.compile(r"&\((0x[0-9a-f]+)([+-]0x[0-9a-f]+)?(?:/(0x[0-9a-f]+))?\)")
_CONST = re.compile(r"0x[0-9a-f]+|0|[1-9]\d{0,19}")
_PROPERTIES = re.compile(r"\)\s*\((?P<props>[^()]*)\)\s*(?:#.*)?$")
_START = GEOMETRIES["x86-64"].arena.start  # of the arena, in a process
_OPEN, _CLOSE = "([{", ")]}"
_CALLS_OF_MEMORY = frozenset({*CALLED, "mlockall", "munlockall", "remap_file_pages"})


@dataclass(slots=True)
class Reader:
    """Programs of syzkaller on their way to cases.

    Arguments: `file` what they lie in; `kernel` the model on which calls must be able to run.
    """

    file: str
    kernel: Kernel
    imported: Imported = field(default_factory=Imported)

    def cases(self, lines: Iterable[str]) -> Iterator[Case]:
        """The cases, a program each; those without a call about memory are passed over.

        Errors raised: CaseError for what is no program, with line and column.
        """
        program: list[tuple[int, str]] = []
        known = False
        for number, text in enumerate(lines, 1):
            text = text.rstrip()
            if _EXECUTING.match(text):
                yield from self._case(program)
                program, known = [], True
            elif text.strip() and not text.lstrip().startswith("#"):
                program.append((number, text))
        known = known or bool(program)
        yield from self._case(program)
        if not known:
            raise CaseError("there is no program in it", file=self.file)

    def _case(self, program: list[tuple[int, str]]) -> Iterator[Case]:
        calls: list[Call] = []
        if program and program[0][1].replace(" ", "") == UNMAPPED.replace(" ", ""):
            program = program[1:]
        else:
            calls += MAPPED
        before = len(calls)
        for number, text in program:
            call = self._call(number, text)
            if call is not None:
                calls.append(call)
        if len(calls) == before:
            return
        if len(calls) > MAX_CALLS:
            number, text = program[0]
            raise CaseError(f"a program of more than {MAX_CALLS} calls", number, 1, text, self.file)
        self.imported.programs += 1
        self.imported.processes += 1
        yield Case(tuple(self._that_run(calls)))

    def _that_run(self, calls: list[Call]) -> list[Call]:
        """The calls but those that no case may make: they reach beyond, or fill too much."""
        results = execute(Case(tuple(calls)), self.kernel, stop=False, check=False).results
        kept = []
        for call, result in zip(calls, results, strict=False):
            if result == "SKIP":
                count(self.imported.left_out, f"{call.name} that no case may make")
            else:
                kept.append(call)
        return kept

    def _call(self, number: int, text: str) -> Call | None:
        """The call on a line, if it is one of ours.  Errors raised: CaseError."""
        match = _CALL.match(text)
        if match is None:
            raise CaseError("expected a call of syzkaller's", number, 1, text, self.file)
        name, first = match["name"], f"{self.file}:{number}: {text.strip()[:100]}"
        if found := _PROPERTIES.search(text):
            for each in found["props"].split(","):
                kind = each.partition(":")[0].strip()
                if kind in ("async", "fail_nth", "rerun"):
                    count(self.imported.changed, f"{kind}: calls are made in turn, and once", first)
        if name not in CALLED:
            kind = "memory" if name in _CALLS_OF_MEMORY else "something else"
            count(self.imported.left_out, f"{name}, about {kind}", first)
            return None
        operands = split(text, match.end())
        if operands is None:
            raise CaseError("a call without its end", number, len(text), text, self.file)
        params = CALLS[name].params
        values: list[int] = []
        for index, (column, operand) in enumerate(operands[: len(params)]):
            value = self._value(operand, index in CALLS[name].addresses)
            if value is None:
                if name == "mmap" and operand.startswith("r"):
                    value = 3  # the file descriptor of something
                else:
                    why = f"expected a number or an address, found {operand[:40]!r}"
                    raise CaseError(why, number, column + 1, text, self.file)
            values.append(value)
        if name == "mremap" and values[4:] == [-_START & WORD_MASK] and not names_target(values[3]):
            values[4] = 0  # no address
        values += [param.default or 0 for param in params[len(values) :]]
        if name == "mmap":
            fd = values[4] & 0xFFFFFFFF
            values[4] = fd - (1 << 32) if fd >> 31 else fd
            values[3], file = as_memory(values[3], values[4])
            if file:
                values[4], values[5] = -1, 0
                count(self.imported.changed, "mmap of a file, as memory without one", first)
        if name == "madvise" and values[2] & WORD_MASK in (MADV_HWPOISON, MADV_SOFT_OFFLINE):
            count(self.imported.left_out, "advice that damages memory", first)
            return None
        self.imported.calls[name] += 1
        return Call(name, tuple(values))

    def _value(self, operand: str, is_address: bool) -> int | None:
        """A number, or an address as an offset into the arena."""
        if match := _ADDRESS.match(operand):
            offset = int(match[1], 16) - BASE + int(match[2] or "0", 16)
            size = int(match[3] or "0", 16)
            # syzkaller takes ranges that stick out of its area back into it.
            return AT + min(max(offset, 0), SIZE - min(size, SIZE))
        if _CONST.fullmatch(operand):
            return (int(operand, 0) - (_START if is_address else 0)) & WORD_MASK
        return None


def split(text: str, start: int) -> list[tuple[int, str]] | None:
    """The operands that begin at an offset, each with its own; None: there is no `)`."""
    found, depth, begun, at = [], 0, start, start
    while at < len(text):
        char = text[at]
        if char in "\"'":
            at = text.find(char, at + 1)
            if at < 0:
                return None
        elif char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            if not depth:
                if text[begun:at].strip():
                    found.append((begun, text[begun:at]))
                return [(at + len(each) - len(each.lstrip()), each.strip()) for at, each in found]
            depth -= 1
        elif char == "," and not depth:
            found.append((begun, text[begun:at]))
            begun = at + 1
        at += 1
    return None

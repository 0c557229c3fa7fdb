"""What a kernel says on its console: reports of what went wrong."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

MOST_LINES = 80  # of a report
_STAMP = re.compile(r"^(<\d+>)?\[\s*\d+\.\d+\]\s?(\[\s*[TC]\d+\]\s?)?")
# How reports begin, the worst first.  Sources: kernel/panic.c, lib/bug.c, arch/*/kernel/traps.c,
# arch/*/mm/fault.c, mm/page_alloc.c bad_page(), kernel/fork.c check_mm(), kernel/watchdog.c,
# kernel/rcu/tree_stall.h, mm/oom_kill.c.
_BEGINNINGS = (
    ("panic", r"Kernel panic - not syncing: (?!System is deadlocked on memory|Out of memory).*"),
    (
        "oops",
        r"(BUG: (unable to handle|kernel NULL pointer).*|Oops: .*|Internal error: .*"
        r"|(Unable|unable) to handle kernel .*|general protection fault.*|kernel BUG at .*"
        r"|stack segment: .*|invalid opcode: .*)",
    ),
    (
        "bug",
        r"(BUG: (KASAN|KFENCE|KCSAN|KMSAN): .*|UBSAN: .*|BUG: (?!soft lockup|workqueue).*"
        r"|BUG [\w-]+ .*: .*)",
    ),
    (
        "hang",
        r"(BUG: soft lockup.*|INFO: rcu_\w+.*stall.*|INFO: task .* blocked for more than.*)",
    ),
    ("warning", r"(WARNING: .*|INFO: possible .*detected.*)"),
    (
        "memory",
        r"(Kernel panic - not syncing: .*|(Memory cgroup o|O)ut of memory: .*|\S+ invoked oom-k.*)",
    ),
)
_REPORT = re.compile("|".join(f"(?P<{kind}>{text})" for kind, text in _BEGINNINGS))
KINDS = [kind for kind, _ in _BEGINNINGS]
_CUT_HERE = "[ cut here ]"
_ENDS = ("---[ end trace", "---[ end Kernel panic")
_FUNCTION = re.compile(r"\b(\w+)(\.\w+)*\+0x[0-9a-f]+/0x")
# Where in a title begins what changes from time to time.
_CHANGES = re.compile(
    r" in process | for address| - CPU#| (pfn|mm):[0-9a-f]|:? \[#\d|:? +(0x)?[0-9a-f]*\d$"
)
_SYSCALL = re.compile(r"\b__(?:x64|ia32|arm64|se|do)_sys_(\w+)")


class Report(NamedTuple):
    """What the kernel reported: `kind` is one of KINDS, `lines` are all of it.

    `title` is the line that says what it is about.
    """

    kind: str
    title: str
    lines: tuple[str, ...]

    @property
    def what(self) -> str:
        """What it is about, the same whenever it happens again."""
        if found := _FUNCTION.search(self.title):
            return f"{self.title.partition(':')[0]} in {found[1]}"
        return _CHANGES.split(self.title, maxsplit=1)[0]

    def told(self) -> dict[str, Any]:
        """As a part of an observation."""
        told = {"kind": self.kind, "what": self.what, "lines": list(self.lines)}
        return told | ({"call": self.syscall} if self.syscall else {})

    @property
    def syscall(self) -> str | None:
        """The system call in whose course it came, if the lines say."""
        for line in self.lines:
            if found := _SYSCALL.search(line):
                return found[1]
        return None


def plain(text: str) -> list[str]:
    """Lines without what stands before each, time and the thread that said it, and blanks behind.

    What cannot be printed is shown as ?.
    """
    lines = (_STAMP.sub("", line.rstrip("\r")).rstrip() for line in text.split("\n"))
    return ["".join(c if c.isprintable() else "?" for c in line) for line in lines]


def reports(text: str) -> Iterator[Report]:
    """What was reported in a piece of the console's text, in order.

    What a report leads to, as a panic behind an oops, is a part of it; its kind is then the worst.
    """
    lines = plain(text)
    number = 0
    while number < len(lines):
        found = _REPORT.search(lines[number])
        if found is None:
            number += 1
            continue
        end = _end(lines, number)
        first = number - 1 if number and _CUT_HERE in lines[number - 1] else number
        yield _report(lines[first:end], found[0])
        number = end


def _end(lines: Sequence[str], start: int) -> int:
    """Where a report ends: behind its last line."""
    for number in range(start, min(len(lines), start + MOST_LINES)):
        if any(mark in lines[number] for mark in _ENDS):
            following = lines[number + 1 : number + 3]
            if not any("Kernel panic" in line for line in following):  # which an oops ends in
                return number + 1
        elif number > start and _CUT_HERE in lines[number]:
            return number
    return min(len(lines), start + MOST_LINES)


def _report(lines: Sequence[str], title: str) -> Report:
    kinds = {kind for line in lines if (kind := _kind(line))}
    return Report(min(kinds, key=KINDS.index), title, tuple(filter(None, lines)))


def _kind(line: str) -> str | None:
    found = _REPORT.search(line)
    return found.lastgroup if found else None

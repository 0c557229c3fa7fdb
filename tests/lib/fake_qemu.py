#!/usr/bin/env python3
"""Stands for qemu where a machine is to have accidents: it answers as init.c and the agent do.

What a program does is said by the lengths of its touches, in pages.  Installed as
qemu-system-x86_64 in a folder on PATH.
"""

import json
import os
import re
import sys
import time
from pathlib import Path
from typing import NoReturn

PAGE = 0x1000
FINE, WARNS_NEXT, WARNS, PANICS, WARNS_AT_END, HANGS, DIES, GIVES_UP, PANICS_AT_END = range(1, 10)
# Those that it has.
ACCIDENTS = [int(what) for what in os.environ.get("FAKE_ACCIDENTS", "2 3 4 5 6 7 8 9").split()]
ALWAYS_AT_END = "FAKE_AT_END" in os.environ
ARENA = 1 << 44
HELLO = {
    "hello": 1,
    "arch": "x86-64",
    "release": "6.12.0-fake",
    "version": "#1",
    "page_bytes": PAGE,
    "user_top": 0x7FFFFFFFF000,
    "arena": [ARENA, 1 << 39],
    "calls": os.environ.get("FAKE_CALLS", "touch munmap").split(),
    "flags": {},
    "fields": ["ret", "pt"],
    "locks": True,
    "root": True,
}
WARNING = """\
------------[ cut here ]------------
WARNING: CPU: 0 PID: 97 at mm/mremap.c:257 move_page_tables+0x5a1/0x700
 __do_sys_munmap+0x2f1/0x4f0
---[ end trace 0000000000000000 ]---
"""
SLOW = "watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [agent:97]"
PANIC = "Kernel panic - not syncing: Fatal exception\n"
AT_END = "BUG: non-zero pgtables_bytes on freeing mm: 4096\n"


def result(name: str, start: str = "", length: str = "0") -> object:
    """Of a call where nothing is mapped."""
    pages = int(length, 16) // PAGE
    if name == "touch":
        return {"segv": [[0, pages]]} if pages else 0
    return "SKIP" if name == "skip" else 0 if pages else "-EINVAL"


class Machine:
    """What init and the agent do."""

    def __init__(self, console: str, recycle: int) -> None:
        self.console = open(console, "a")  # noqa: SIM115
        self.recycle = recycle
        self.begin()

    def begin(self) -> None:
        """A new agent."""
        self.ran = 0
        self.at_end = self.next = self.panics_at_end = False

    def say(self, text: str, mark: str) -> None:
        self.console.write(re.sub("^", "[    1.234567] ", text, flags=re.MULTILINE))
        self.console.write(f"\n[    1.234567] init: {mark}\n")
        self.console.flush()

    def panic(self) -> NoReturn:
        self.console.write(PANIC)
        sys.exit(0)

    def end(self, name: str) -> None:
        if self.panics_at_end:
            self.panic()
        if self.at_end:
            self.say(AT_END, f"the end behind case {name}")
        self.begin()

    def run(self, line: str) -> dict[str, object]:
        name, _, program = line.partition("\t")
        calls = [call.split() for call in program.split(";")]
        most = max(ACCIDENTS, default=FINE)  # and beyond, for programs that come by chance
        does = [min(int(call[2], 16) // PAGE, most) for call in calls if call[0] == "touch"]
        does = [what for what in does if what in ACCIDENTS]
        between = any(call[0] == "munmap" for call in calls)  # two programs, as one
        if WARNS in does or self.next or (WARNS_NEXT in does and between):
            self.say(WARNING, f"case {name}")
        elif not does:
            self.say(SLOW, f"case {name}")
        self.next = WARNS_NEXT in does
        self.panics_at_end |= PANICS_AT_END in does
        self.at_end |= WARNS_AT_END in does or (ALWAYS_AT_END and calls[0][0] == "touch")
        if PANICS in does:
            self.panic()
        if HANGS in does:
            time.sleep(1000)
        if GIVES_UP in does:
            self.say("", "cannot go on: too little memory is left")
            sys.exit(0)
        if DIES in does:
            self.begin()
            return {"id": name, "crash": "killed by SIGSEGV"}
        self.ran += 1
        if self.ran == self.recycle:
            self.end(name)
        results = [result(*call) for call in calls]
        ends = {"vmas": [], "pages": [], "pgtable_bytes": 0, "rss_pages": 0, "warn": False}
        return {"id": name, "ret": results, "pt": [0] * len(calls)} | ends


def installed(folder: Path) -> Path:
    """Install it in a folder.  Returns: the folder, to be put on PATH."""
    program = folder / "qemu-system-x86_64"
    folder.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} "$@"\n')
    program.chmod(0o755)
    return folder


def main() -> None:
    arguments = " ".join(sys.argv)
    console = re.search(r"id=console,path=(\S+)", arguments)[1]
    with open(re.search(r"-initrd (\S+)", arguments)[1], "rb") as archive:
        recycle = int(re.search(rb"\nrecycle (\d+)\n", archive.read())[1])
    machine = Machine(console, recycle)
    if "FAKE_BOOTS" in os.environ and (path := Path(os.environ["FAKE_BOOTS"])).read_text():
        path.write_text(path.read_text()[1:])  # a letter for each boot that fails
        machine.panic()
    print(json.dumps(HELLO), flush=True)
    for line in sys.stdin:
        if line.startswith("!end "):
            machine.end(line[5:-1])
            answer = {"end": 0}
        elif line.startswith("!"):
            answer = {"read": line, "error": "there is none"}
        else:
            answer = machine.run(line.rstrip("\n"))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

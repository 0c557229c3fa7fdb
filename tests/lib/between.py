"""Programs whose last call moves memory, with others in between."""

from engine.base.kernel import kernel_named
from fuzz.case import Result
from fuzz.execute import Outcome, execute
from fuzz.forms.text import parse

MAPPED = """\
mmap(0x200000, 0x400000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x200000, 0x2000)
touch(0x400000, 0x2000)
"""
MOVED = "mremap(0x200000, 0x400000, 0x400000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)\n"
WALKING = "@at move-ptes 1: migrate_begin(0x200000, SLOWLY)\n"
APART = MOVED.replace("0x40200000", "0x40201000")


def run(lines: str, kernel: str = "linux-6.18", before: str = MAPPED, move: str = MOVED) -> Outcome:
    """A program whose last call moves two slots, with others in between."""
    return execute(parse(before + lines + "\n" + move), kernel_named(kernel), stop=False)


def came_of(lines: str, kernel: str = "linux-6.18", **how: str) -> Result:
    """What became of the last of those in between; no rule is broken."""
    outcome = run(lines, kernel, **how)
    assert outcome.violations == []
    return outcome.results[-2]

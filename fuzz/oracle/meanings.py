"""What each call means for memory."""

from collections.abc import Callable
from typing import NamedTuple

from fuzz.oracle import effects
from fuzz.oracle.world import World


class Meaning(NamedTuple):
    """What a call does to memory.

    `effect`: what its success changes, told by the operands and the result; `maps`: there may be
    other mappings after it; `needs`: it cannot succeed unless all it names is mapped; `cuts`: what
    it names may be a mapping of its own from then on; `accesses`: it is no call but an access;
    `fills`: it may bring pages in, in failure, too.
    """

    effect: Callable[[World, tuple[int, ...], int], None] | None = None
    maps: bool = False
    needs: bool = False
    cuts: bool = False
    accesses: bool = False
    fills: bool = False


UNMOVED = Meaning()  # contents and mappings stay as they are, and nothing is asked of them
_MARKS = Meaning(needs=True, cuts=True)
_LOCKS = _MARKS._replace(fills=True)
# Every call has an entry: what the oracle was not told of, it could not check.
MEANINGS: dict[str, Meaning] = {
    "mmap": Meaning(effects.mmap, maps=True),
    "munmap": Meaning(effects.munmap, maps=True),
    "mprotect": Meaning(effects.mprotect, needs=True, cuts=True),
    "mremap": Meaning(effects.mremap, maps=True),
    "madvise": Meaning(effects.madvise, needs=True, cuts=True),
    "mlock": _LOCKS,
    "munlock": _MARKS,
    "mlock2": _LOCKS,
    "touch": Meaning(accesses=True),
    "peek": Meaning(accesses=True),
    "execve_stack": Meaning(effects.execve_stack, maps=True),
    "relocate": Meaning(effects.relocate, maps=True),
    "mseal": _MARKS,
    "uffd_register": Meaning(effects.uffd_register, cuts=True),
    "uffd_wp": UNMOVED,
    "uffd_rwp": UNMOVED,
    "fork": UNMOVED,
    "exit_child": UNMOVED,
    "swapout": Meaning(effects.swapout),
    "migrate_begin": UNMOVED,
    "migrate_end": UNMOVED,
    "soft_dirty_clear": UNMOVED,
    "touch_on": UNMOVED,
    "file": Meaning(effects.file),
    "bpf_map": Meaning(effects.bpf_map),
    "ftruncate": Meaning(effects.ftruncate),
    "fallocate": Meaning(effects.fallocate),
    "collapse_file": Meaning(effects.collapse_file),
    "@fail": Meaning(effects.run_short),
    "@limit": Meaning(effects.run_short),
    # That somebody is to do this in the middle of a call; `follow_between` says what it does then.
    "@at touch": UNMOVED,
    "@at peek": UNMOVED,
    "@at touch_on": UNMOVED,
    "@at swapout": UNMOVED,
    "@at migrate_begin": UNMOVED,
    "@at migrate_end": UNMOVED,
    "@at collapse_file": UNMOVED,
    "@at ftruncate": UNMOVED,
    "@at fallocate": UNMOVED,
    "@at madvise": UNMOVED,
    "@at uffd_wp": UNMOVED,
    "@at uffd_rwp": UNMOVED,
}

"""How what is in an address space is told to people: one way to write each thing.

Rules, the model's own warnings and drawings use the same words.  Addresses are offsets into the
arena, as cases write them, and so are the page offsets of anonymous memory, which follow from
addresses.  Flags have the kernel's names, counters that of the line of /proc that shows them.
"""

from collections.abc import Mapping

from engine.base import uapi
from engine.base.address import Range
from engine.base.entry import (
    ACCESSED,
    ANON,
    DIRTY,
    EXCLUSIVE,
    HUGE,
    MARKER,
    MIGRATION,
    PFN_SHIFT,
    PRESENT,
    SOFT_DIRTY,
    SWAP,
    UFFD_WP,
    WRITE,
    ZERO_PFN,
    is_zero_page,
)
from engine.base.geometry import Geometry
from engine.base.violation import Violation
from engine.state.backing import Backing
from engine.state.tlb import Translation
from engine.state.vma import (
    VM_ACCESS,
    VM_EXEC,
    VM_FLAGS,
    VM_READ,
    VM_SHARED,
    VM_WRITE,
    AnonVma,
    UffdContext,
    Vma,
)

LEVELS = ("page", "PTE", "PMD", "PUD", "P4D", "PGD")  # by level of a table; 0 is no table

# What is counted in pages: what it is, and where /proc shows it.
MAPPED = "mapped", "VmSize"
PEAK = "mapped at the peak", "VmPeak"
LOCKED = "locked", "VmLck"
COMMITTED = "committed", "Committed_AS"
RESERVED = "reserved", "HugePages_Rsvd"
FREE = "free", "HugePages_Free"
RSS_ANON = "of private memory", "RssAnon"
RSS_SHMEM = "of shared memory", "RssShmem"
RSS_SWAP = "in swap", "VmSwap"

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_FEATURES = {name: bit for name, bit in vars(uapi).items() if name.startswith("UFFD_FEATURE_")}
# What an entry may say of its page; that it is present, huge or anonymous is told otherwise.
_ENTRY_BITS = {
    "writable": WRITE,
    "dirty": DIRTY,
    "accessed": ACCESSED,
    "soft-dirty": SOFT_DIRTY,
    "uffd-wp": UFFD_WP,
    "exclusive": EXCLUSIVE,
}


# --- Addresses, sizes, counts ---------------------------------------------------------------------


def address(geometry: Geometry, addr: int) -> str:
    """An address: 0x200000.  One below the arena is negative, as a case would write it."""
    return f"{addr - geometry.arena.start:#x}"


def span(geometry: Geometry, where: Range) -> str:
    """A range: [0x200000, 0x204000)."""
    return f"[{address(geometry, where.start)}, {address(geometry, where.end)})"


def violation(geometry: Geometry, broken: Violation) -> str:
    """A broken rule in three lines: where, what was found and what is expected."""
    place = "" if broken.where == geometry.arena else f" at {span(geometry, broken.where)}"
    return f"{broken.rule}{place}\n  found     {broken.found}\n  expected  {broken.expected}"


def spans(geometry: Geometry, wheres: list[Range]) -> str:
    """Some ranges."""
    return ", ".join(span(geometry, where) for where in wheres) or "nothing"


def size(length: int) -> str:
    """Bytes, in the largest unit of which they are a multiple: 2 MiB."""
    unit = 0
    while length and length % 1024 == 0 and unit < len(_UNITS) - 1:
        length, unit = length // 1024, unit + 1
    return f"{length} {_UNITS[unit]}"


def count(number: int, what: str) -> str:
    """How many there are: 1 page, 3 pages, 2 entries."""
    if number != 1:
        what = f"{what[:-1]}ies" if what.endswith("ry") else f"{what}s"
    return f"{number} {what}"


def counter(which: tuple[str, str], pages: int) -> str:
    """A counter of pages: 3 pages committed (Committed_AS)."""
    what, shown = which
    return f"{count(pages, 'page')} {what} ({shown})"


# --- Mappings -------------------------------------------------------------------------------------


def flags(bits: int, names: Mapping[str, int] = VM_FLAGS) -> str:
    """Flags by name: VM_READ|VM_WRITE."""
    found = [name for name, bit in names.items() if bits & bit]
    rest = bits & ~sum(bit for bit in names.values())
    return "|".join([*found, *([f"{rest:#x}"] if rest else [])]) or "no flags"


def protection(bits: int) -> str:
    """Protection as /proc/PID/maps prints it: rw-p."""
    access = ((VM_READ, "r"), (VM_WRITE, "w"), (VM_EXEC, "x"))
    letters = "".join(letter if bits & bit else "-" for bit, letter in access)
    return letters + ("s" if bits & VM_SHARED else "p")


def page_offset(geometry: Geometry, backing: Backing, pgoff: int) -> str:
    """The page offset of a VMA; of anonymous memory it is that of the address it once had."""
    base = geometry.arena.start >> geometry.page_shift if backing.is_anonymous else 0
    return f"{pgoff - base:#x}"


def mapping(
    geometry: Geometry, where: Range, bits: int, backing: Backing, pgoff: int | None = None
) -> str:
    """What is mapped: [0x200000, 0x204000) rw-p VM_LOCKED, anonymous memory at page offset 0x200.

    Arguments: `bits` flags of a VMA; `pgoff` None: it does not matter.
    """
    others = bits & ~(VM_ACCESS | VM_SHARED)
    more = f" {flags(others)}" if others else ""
    at = "" if pgoff is None else f" at page offset {page_offset(geometry, backing, pgoff)}"
    return f"{span(geometry, where)} {protection(bits)}{more}, {backing}{at}"


def vma(geometry: Geometry, one: Vma) -> str:
    """A VMA, see `mapping`."""
    return mapping(geometry, one.range, one.flags, one.backing, one.pgoff)


def anon_vma(one: AnonVma | None) -> str:
    """What pages of private memory belong to."""
    return str(one or "no anon_vma")


def userfaultfd(context: UffdContext | None) -> str:
    """A userfaultfd, by what it asked for."""
    if context is None:
        return "no userfaultfd"
    return f"a userfaultfd with {features(context.features)}"


def features(bits: int) -> str:
    """Features of a userfaultfd by name."""
    return flags(bits, _FEATURES) if bits else "no features"


# --- Page tables ----------------------------------------------------------------------------------


def table(level: int, entries: int) -> str:
    """A table of a level: a PTE table with 3 entries, an emptied PTE table."""
    if not entries:
        return f"an emptied {LEVELS[level]} table"
    return f"a {LEVELS[level]} table with {count(entries, 'entry')}"


def translation(kept: Translation) -> str:
    """What a TLB holds, or would hold: frame 12, writable."""
    what = f"frame {kept.pfn}" if kept.pfn != ZERO_PFN else "the zero page"
    return f"{what}, {'writable' if kept.writable else 'read-only'}"


def entry(held: int) -> str:
    """An entry: frame 12, writable, dirty."""
    number = held >> PFN_SHIFT
    if held & MARKER:
        return "a uffd-wp marker" if held & UFFD_WP else "a guard marker"
    if is_zero_page(held):
        what = "the huge zero page" if held & HUGE else "the zero page"
    elif held & SWAP:
        what = f"swap slot {number}"
    elif held & MIGRATION:
        what = f"a migration entry for frame {number}"
    else:
        kind = "" if held & ANON else " of an object"
        what = f"{'the huge page at ' if held & HUGE else ''}frame {number}{kind}"
        if not held & PRESENT:
            what = f"an entry that is not present, {what}"
    return ", ".join([what, *(name for name, bit in _ENTRY_BITS.items() if held & bit)])

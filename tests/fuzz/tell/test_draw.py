"""Drawings, as exact text: they are what people judge a finding by."""

from collections.abc import Sequence
from typing import Any

import pytest

from engine.base.address import Range
from engine.base.entry import ANON, HUGE, MARKER, PRESENT, WRITE, leaf
from engine.base.geometry import PMD, PTE
from engine.base.kernel import kernel_named
from engine.base.uapi import MAP_FIXED, MAP_PRIVATE
from engine.calls.file import FIRST_FD, file
from engine.calls.mmap import mmap
from engine.state.space import AddressSpace
from engine.state.vma import VM_EXEC, VM_LOCKED, VM_READ, VM_SHARED, VM_WRITE, Vma
from fuzz.execute import execute
from fuzz.forms.text import parse
from fuzz.rules.index import BY_SLUG
from fuzz.tell import signs
from fuzz.tell.details import DETAILS
from fuzz.tell.draw import draw, draw_change
from fuzz.tell.signs import legend
from tests.lib.constants import PAGE
from tests.lib.drawn import strip, strip_tables, tiny

SLOT = 0x4000  # of the tiny geometry


def empty(geometry: str = "tiny") -> AddressSpace:
    space = AddressSpace(kernel_named("linux-6.1", geometry))
    space.frames.allocate([0, 0], [0, 0], None)  # frames 1 and 2
    return space


def add_vma(space: AddressSpace, offset: int, length: int, flags: int = VM_READ | VM_WRITE) -> Vma:
    start = space.arena.start + offset
    vma = Vma(start, start + length, flags, start >> space.geometry.page_shift)
    if flags & VM_SHARED:
        vma.backing = space.new_shmem(length >> space.geometry.page_shift)
    space.vmas.insert(vma)
    return vma


def put(
    space: AddressSpace, offset: int, count: int = 1, flags: int = PRESENT | WRITE | ANON
) -> None:
    """Give `count` pages from `offset` on an entry each."""
    for number in range(count):
        address = space.arena.start + offset + number * space.geometry.page_bytes
        table = space.tree.make(address, PTE)
        space.tree.put(table, space.tree.index(address, PTE), leaf(1, flags))


def make_table(space: AddressSpace, offset: int) -> None:
    space.tree.make(space.arena.start + offset, PTE)


def stack_move() -> AddressSpace:
    """A stack over two and a half slots, the first of which was emptied by the move under way."""
    space = empty("x86-64")
    vma = add_vma(space, 0xBFB00000, 0x500000)
    vma.link_to(space.new_anon_vma())
    make_table(space, 0xBFA00000)
    make_table(space, 0xBF600000)
    put(space, 0xBFC00000, 1024)
    return space


def drawn(space: AddressSpace, **how: Any) -> list[str]:
    """The lines of a drawing."""
    return str(draw(space, **how)).splitlines()


def test_empty_space_is_one_line() -> None:
    assert drawn(empty()) == ["linux-6.1 on tiny: 0 VMAs, page tables 0 B"]
    assert strip(empty()) == "." * 256
    assert strip_tables(empty()) == "." * 64


def test_strip_shows_pages_by_vma() -> None:
    space = empty()
    add_vma(space, 0, 2 * PAGE)
    add_vma(space, 4 * PAGE, 3 * PAGE)
    put(space, PAGE)
    put(space, 4 * PAGE, 2)
    assert strip(space, 0, 8) == "aA..BBb."
    assert strip(space, 4, 3) == "BBb"
    assert len(strip(space)) == 256


def test_strip_shows_an_entry_outside_every_vma() -> None:
    space = empty()
    add_vma(space, 0, PAGE)
    put(space, 0, 2)
    assert strip(space, 0, 4) == "A!.."


def test_strip_tables_shows_emptied_tables_and_huge_pages() -> None:
    space = empty()
    add_vma(space, 0, 4 * SLOT)
    put(space, 0)
    make_table(space, SLOT)
    start = space.arena.start + 3 * SLOT
    space.tree.put(space.tree.make(start, PMD), 3, leaf(1, PRESENT | HUGE | ANON))
    assert strip_tables(space, 0, 6) == "To.H.."
    assert strip(space, 0, 18) == "Aaaaaaaaaaaa" + "AAAA" + ".."


def test_drawing_of_a_stack_move_shows_the_emptied_table_in_the_way() -> None:
    space = stack_move()
    where = Range(space.arena.start + 0xBFA00000, space.arena.start + 0xBFC00000)
    assert drawn(space, where=where) == [
        "linux-6.1 on x86-64: 1 VMA, page tables 24 KiB",
        "VMAs                               size  prot    pages  pgoff",
        "[0xbfb00000, 0xc0000000)          5 MiB  rw-p     1024  0xbfb00  faulted <==",
        "tables",
        "         0x0 PUD table           1/512 |+               |",
        "  0x80000000  PMD table          4/512 |               +|",
        "  0xbf600000   PTE table         0/512 |                |  emptied, no VMA",
        "  0xbfa00000   PTE table         0/512 |        ........|  emptied <==",
        "  0xbfc00000   PTE table x2    512/512 |################|",
    ]


def test_drawing_tells_kinds_of_vmas_apart() -> None:
    space = empty()
    add_vma(space, 0, PAGE, VM_READ | VM_EXEC)
    add_vma(space, 2 * PAGE, 2 * PAGE, VM_READ | VM_WRITE | VM_SHARED | VM_LOCKED)
    add_vma(space, 8 * PAGE, 2 * PAGE, 0)
    put(space, 8 * PAGE, 2, MARKER)
    put(space, 3 * PAGE, 1, PRESENT)
    assert drawn(space) == [
        "linux-6.1 on tiny: 3 VMAs, page tables 16 KiB",
        "VMAs                       size  prot    pages  pgoff",
        "[0x0, 0x1000)             4 KiB  r-xp        0  0x0  unfaulted",
        "[0x2000, 0x4000)          8 KiB  rw-s        1  0x2  object 1 locked",
        "[0x8000, 0xa000)          8 KiB  ---p        0  0x8  unfaulted 2 markers",
        "tables",
        "     0x0 PUD table         1/4 |#   |",
        "     0x0  PMD table        2/4 |# # |",
        "     0x0   PTE table       1/4 |. .#|",
        "  0x8000   PTE table       2/4 |##  |",
    ]


def test_a_file_has_its_letter() -> None:
    space = AddressSpace(tiny())
    assert file(space, FIRST_FD + 2, 4 * PAGE) is None
    flags = MAP_PRIVATE | MAP_FIXED
    assert mmap(space, 16 * PAGE, PAGE, 3, flags, 0, FIRST_FD + 2) == 16 * PAGE
    assert drawn(space)[2].endswith("file C")


def test_huge_pages_have_lines_of_their_own() -> None:
    space = empty("x86-64")
    add_vma(space, 0, 0x800000)
    table = space.tree.make(space.arena.start, PMD)
    for index in (1, 2):
        space.tree.put(table, index, leaf(index, PRESENT | HUGE | ANON))
    put(space, 0)
    assert drawn(space)[2:] == [
        "[0x0, 0x800000)                   8 MiB  rw-p     1025  0x0  unfaulted",
        "tables",
        "         0x0 PUD table           1/512 |+               |",
        "         0x0  PMD table          3/512 |+               |",
        "         0x0   PTE table         1/512 |+...............|",
        "    0x200000   huge page x2    2 MiB",
    ]


def test_preallocated_tables_are_not_reported_as_emptied() -> None:
    lines = drawn(empty("i386-pae"))
    assert lines[2:] == ["       0x0 PMD table x3       0/512 |                |  preallocated"]


@pytest.mark.parametrize("geometry", ["tiny", "x86-64", "x86-64-la57", "i386", "arm64-64k-42"])
def test_every_geometry_can_be_drawn(geometry: str) -> None:
    space = empty(geometry)
    slot = space.geometry.slot_bytes
    add_vma(space, slot, 2 * slot)
    put(space, slot)
    make_table(space, 2 * slot)
    assert strip_tables(space, 0, 4) == ".To."
    lines = drawn(space)
    assert [line.split()[1:3] for line in lines[-2:]] == [["PTE", "table"]] * 2
    assert [line.endswith("emptied") for line in lines[-2:]] == [False, True]


def test_long_lists_lose_their_middle_but_say_what_was_in_it() -> None:
    space = empty("x86-64")
    for number in range(60):
        add_vma(space, number * 0x400000, PAGE)
        put(space, number * 0x400000)
    make_table(space, 30 * 0x400000 + 0x200000)
    lines = drawn(space)
    assert len(lines) == 2 + 12 + 1 + 24
    assert lines[8] == "... 49 VMA lines more"
    assert "... 40 table lines more  1 emptied  1 no VMA" in lines
    assert lines[13].startswith("[0xec00000, 0xec01000) ")


def test_cost_follows_what_is_there_not_the_arena() -> None:
    space = empty("x86-64")
    add_vma(space, 0, space.arena.length)
    for number in range(8):
        put(space, number * (64 << 30))
    # A walk over the arena would take hours.
    assert len(drawn(space)) == 4 + 1 + 8 + 8


def test_lines_are_cut_to_the_width() -> None:
    lines = drawn(stack_move(), width=40)
    assert max(map(len, lines)) == 40
    assert lines[0] == "linux-6.1 on x86-64: 1 VMA, page tables…"


def test_change_marks_what_is_new_gone_and_different() -> None:
    space = empty()
    vma = add_vma(space, 0, 2 * PAGE)
    gone = add_vma(space, 4 * PAGE, PAGE)
    put(space, 0)
    before = draw(space)
    put(space, PAGE)
    space.vmas.remove(gone)
    vma.flags |= VM_LOCKED
    add_vma(space, 8 * PAGE, PAGE)
    assert draw_change(before, draw(space)).splitlines() == [
        "  linux-6.1 on tiny: 2 VMAs, page tables 12 KiB",
        "  VMAs                       size  prot    pages  pgoff",
        "~ [0x0, 0x2000)             8 KiB  rw-p        2  0x0  unfaulted locked",
        "- [0x4000, 0x5000)          4 KiB  rw-p        0  0x4  unfaulted",
        "+ [0x8000, 0x9000)          4 KiB  rw-p        0  0x8  unfaulted",
        "  tables",
        "       0x0 PUD table         1/4 |#   |",
        "~      0x0  PMD table        1/4 |# . |",
        "~      0x0   PTE table       2/4 |##  |",
    ]


def test_change_from_nothing_and_to_the_same() -> None:
    full = draw(stack_move())
    assert draw_change(full, full) == "\n".join(f"  {line}" for line in str(full).splitlines())
    marks = [line[0] for line in draw_change(draw(empty("x86-64")), full).splitlines()]
    assert "".join(marks) == "~ + +++++"


def test_colour_only_when_asked_for() -> None:
    space = stack_move()
    before, after = draw(empty("x86-64")), draw(space)
    assert "\033[32m+          0x0 PUD table " in draw_change(before, after, colour=True)
    assert "\033" not in draw_change(before, after)


# --- Details --------------------------------------------------------------------------------------


def changes(before: str, after: str, rules: Sequence[str] = ()) -> list[str]:
    """The lines below VMAs and tables of a drawing of the program `after`, behind `before`."""
    kernel = kernel_named("linux-6.18")
    spaces = [
        execute(parse(program), kernel, stop=False).space for program in (before, before + after)
    ]
    first, second = (draw(space, rules=rules) for space in spaces)
    lines = draw_change(first, second).splitlines()
    last = max(number for number, line in enumerate(lines) if " table " in line)
    return lines[last + 1 :]


MAP = "mmap(0x0, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
FULL = f"{MAP}touch(0x0, 0x4000)\n"


def test_contents_are_shown_where_they_change() -> None:
    moved = "mremap(0x1000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x10000)\n"
    assert changes(FULL, moved) == [
        "  contents",
        "- [0x0, 0x4000)                 1 to 4",
        "+ [0x0, 0x1000)                 1",
        "+ [0x2000, 0x4000)              3 to 4",
        "+ [0x10000, 0x11000)            2",
    ]
    assert changes(FULL, "mlock(0x0, 0x4000)\n") == []


def test_contents_are_shown_where_they_are_wrong() -> None:
    assert changes(FULL, "", ["pages-kept"]) == [
        "  contents",
        "  [0x0, 0x4000)                 1 to 4",
    ]


def test_swapped_pages_are_shown() -> None:
    assert changes(FULL, "swapout(0x1000, 0x2000)\n") == ["  swapped out", "+ [0x1000, 0x3000)"]


def test_uffd_wp_is_shown() -> None:
    registered = f"{FULL}uffd_register(0x0, 0x4000, UFFDIO_REGISTER_MODE_WP)\n"
    assert changes(registered, "uffd_wp(0x3000, 0x1000, 1)\n") == [
        "  uffd-wp",
        "+ [0x3000, 0x4000)",
    ]


def test_pages_that_stay_locked_are_shown() -> None:
    locked = "mlock(0x0, 0x4000)\n"
    beside = "mremap(0x0, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_DONTUNMAP, 0x10000)\n"
    assert changes(f"{FULL}{locked}", beside)[-2:] == [
        "  mlocked",
        "+ [0x1000, 0x4000)",
    ]


def test_what_is_wrong_is_shown_though_there_is_none() -> None:
    assert changes(FULL, "", ["uffd-wp-stray"]) == ["  uffd-wp: none"]


def test_flags_are_shown_by_name_where_they_change() -> None:
    assert changes(FULL, "madvise(0x0, 0x4000, MADV_DONTFORK)\n") == [
        "  flags",
        "+ [0x0, 0x4000)                 VM_DONTCOPY",
    ]


def test_tables_in_store_are_shown() -> None:
    huge = "mmap(0x0, 0x200000, PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    program = f"{huge}madvise(0x0, 0x200000, MADV_HUGEPAGE)\ntouch(0x0, 0x1000)\n"
    space = execute(parse(program), kernel_named("linux-6.18"), stop=False).space
    (line,) = (line for line in drawn(space) if "PMD table" in line)
    assert line.endswith("1 in store")


def test_soft_dirty_is_shown_once_somebody_looks_at_it() -> None:
    assert not any("soft-dirty" in line for line in changes(MAP, "touch(0x0, 0x1000)\n"))
    cleared = f"{FULL}soft_dirty_clear()\n"
    assert changes(cleared, "touch(0x1000, 0x1000)\n")[-2:] == [
        "  soft-dirty",
        "+ [0x1000, 0x2000)",
    ]
    assert changes(cleared, MAP.replace("0x0", "0x10000"))[-2:] == [
        "  soft-dirty",
        "+ [0x10000, 0x14000)            all of it (VM_SOFTDIRTY)",
    ]


def test_tlbs_are_shown_and_what_is_stale_in_them() -> None:
    assert changes(FULL, "touch_on(1, 0x1000)\n") == [
        "  TLBs",
        "+ CPU 1 [0x1000, 0x2000)              frame 2 (content 2), writable",
    ]
    case = parse(f"{FULL}touch_on(1, 0x1000)\n")
    space = execute(case, kernel_named("linux-6.18"), stop=False).space
    table = space.tree.make(space.arena.start, PTE)
    space.tree.take(table, 1)
    (line,) = draw(space).parts["TLBs"].lines
    assert line.text.endswith("frame 2 (content 2), writable, stale")


def test_counters_are_shown_where_they_are_wrong() -> None:
    assert changes(MAP, "touch(0x0, 0x4000)\n", ["committed"])[2:] == [
        "  counters",
        "  VmSize          4 pages mapped",
        "  VmPeak          4 pages mapped at the peak",
        "+ RssAnon         4 pages of private memory",
        "  Committed_AS    4 pages committed",
        "  [0x0, 0x4000)                 VM_ACCOUNT, 4 pages",
    ]


def test_what_is_pointed_at_is_not_a_change_and_never_hidden() -> None:
    space = empty("x86-64")
    for number in range(60):
        add_vma(space, number * 0x400000, PAGE)
    start = space.arena.start + 30 * 0x400000
    pointed = draw(space, where=Range(start, start + PAGE))
    assert draw(space).differs(draw(space)) is False
    assert pointed.differs(draw(space))
    (line,) = (line for line in draw_change(draw(space), pointed).splitlines() if "<==" in line)
    assert line.startswith("  [0x7800000, 0x7801000)")


def test_what_changed_is_never_hidden_behind_what_did_not() -> None:
    space = empty("x86-64")
    vmas = [add_vma(space, number * 0x400000, PAGE) for number in range(60)]
    before = draw(space)
    vmas[30].flags |= VM_LOCKED
    lines = draw_change(before, draw(space)).splitlines()
    assert len(lines) == 2 + 13
    assert [line[:30].strip() for line in lines if line[0] == "~" or "more" in line] == [
        "... 25 VMA lines more",
        "~ [0x7800000, 0x7801000)",
        "... 24 VMA lines more",
    ]


def test_a_place_that_is_everywhere_is_not_pointed_at() -> None:
    space = stack_move()
    assert "<==" not in str(draw(space, where=space.arena))


def test_details_are_asked_for_by_rules_that_there_are() -> None:
    assert {slug for detail in DETAILS for slug in detail.rules} <= BY_SLUG.keys()


def test_the_legend_has_every_sign() -> None:
    named = {value for value in vars(signs).values() if isinstance(value, signs.Sign)}
    told = "\n".join(legend())
    assert all((sign if sign.strip() else "blank") in told for sign in named)
    assert all(sign.meaning in told for sign in named)


def test_a_mark_of_hugetlb_is_no_huge_page() -> None:
    case = parse(
        "mmap(0x200000, 0x400000, PROT_READ|PROT_WRITE,"
        " MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED|MAP_HUGETLB)\n"
        "uffd_register(0x200000, 0x400000, UFFDIO_REGISTER_MODE_WP)\n"
        "touch(0x200000, 0x1000)\n"
        "uffd_wp(0x200000, 0x400000, 1)\n"
    )
    outcome = execute(case, kernel_named("linux-6.18"), stop=False)
    shown = str(draw(outcome.space))
    assert "0x200000   huge page" in shown
    assert "0x400000   huge mark" in shown

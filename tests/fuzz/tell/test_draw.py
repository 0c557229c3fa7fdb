"""Drawings, as exact text: they are what people judge a finding by."""

import pytest

from engine.base.address import Range
from engine.base.entry import ANON, HUGE, MARKER, PRESENT, WRITE, leaf
from engine.base.geometry import PMD, PTE
from engine.base.kernel import kernel_named
from engine.state.space import AddressSpace
from engine.state.vma import VM_EXEC, VM_LOCKED, VM_READ, VM_SHARED, VM_WRITE, Vma
from fuzz.tell.draw import draw, draw_change, readable_bytes
from tests.lib.constants import PAGE
from tests.lib.drawn import strip, strip_tables

SLOT = 0x4000  # of the tiny geometry


def empty(geometry: str = "tiny") -> AddressSpace:
    return AddressSpace(kernel_named("linux-6.1", geometry))


def add_vma(space: AddressSpace, offset: int, length: int, flags: int = VM_READ | VM_WRITE) -> Vma:
    start = space.arena.start + offset
    vma = Vma(start, start + length, flags, offset >> space.geometry.page_shift)
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


def test_empty_space_is_one_line() -> None:
    assert draw(empty()) == "linux-6.1 on tiny: 0 VMAs, page tables 0 B"
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
    assert draw(space, where=where).splitlines() == [
        "linux-6.1 on x86-64: 1 VMA, page tables 24 KiB",
        "VMAs                            size  prot     pages  pgoff",
        "0xbfb00000-0xc0000000          5 MiB  rw-p      1024  0xbfb00  faulted",
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
    assert draw(space).splitlines() == [
        "linux-6.1 on tiny: 3 VMAs, page tables 16 KiB",
        "VMAs                    size  prot     pages  pgoff",
        "0x0-0x1000             4 KiB  r-xp         0  0x0  unfaulted",
        "0x2000-0x4000          8 KiB  rw-s         1  0x2  object 1 locked",
        "0x8000-0xa000          8 KiB  ---p         0  0x8  unfaulted 2 markers",
        "tables",
        "     0x0 PUD table         1/4 |#   |",
        "     0x0  PMD table        2/4 |# # |",
        "     0x0   PTE table       1/4 |. .#|",
        "  0x8000   PTE table       2/4 |##  |",
    ]


def test_huge_pages_have_lines_of_their_own() -> None:
    space = empty("x86-64")
    add_vma(space, 0, 0x800000)
    table = space.tree.make(space.arena.start, PMD)
    for index in (1, 2):
        space.tree.put(table, index, leaf(index, PRESENT | HUGE | ANON))
    put(space, 0)
    assert draw(space).splitlines()[2:] == [
        "0x0-0x800000                   8 MiB  rw-p      1025  0x0  unfaulted",
        "tables",
        "         0x0 PUD table           1/512 |+               |",
        "         0x0  PMD table          3/512 |+               |",
        "         0x0   PTE table         1/512 |+...............|",
        "    0x200000   huge page x2    2 MiB",
    ]


def test_preallocated_tables_are_not_reported_as_emptied() -> None:
    lines = draw(empty("i386-pae")).splitlines()
    assert lines[2:] == ["       0x0 PMD table x3       0/512 |                |  preallocated"]


@pytest.mark.parametrize("geometry", ["tiny", "x86-64", "x86-64-la57", "i386", "arm64-64k-42"])
def test_every_geometry_can_be_drawn(geometry: str) -> None:
    space = empty(geometry)
    slot = space.geometry.slot_bytes
    add_vma(space, slot, 2 * slot)
    put(space, slot)
    make_table(space, 2 * slot)
    assert strip_tables(space, 0, 4) == ".To."
    lines = draw(space).splitlines()
    assert [line.split()[1:3] for line in lines[-2:]] == [["PTE", "table"]] * 2
    assert [line.endswith("emptied") for line in lines[-2:]] == [False, True]


def test_long_lists_lose_their_middle_but_say_what_was_in_it() -> None:
    space = empty("x86-64")
    for number in range(60):
        add_vma(space, number * 0x400000, PAGE)
        put(space, number * 0x400000)
    make_table(space, 30 * 0x400000 + 0x200000)
    lines = draw(space).splitlines()
    assert len(lines) == 2 + 12 + 1 + 24
    assert lines[8] == "... 49 VMA lines more"
    assert "... 40 table lines more  1 emptied  1 no VMA" in lines
    assert lines[13].startswith("0xec00000-0xec01000 ")


def test_cost_follows_what_is_there_not_the_arena() -> None:
    space = empty("x86-64")
    add_vma(space, 0, space.arena.length)
    for number in range(8):
        put(space, number * (64 << 30))
    drawing = draw(space)  # a walk over the arena would take hours
    assert len(drawing.splitlines()) == 4 + 1 + 8 + 8


def test_lines_are_cut_to_the_width() -> None:
    lines = draw(stack_move(), width=40).splitlines()
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
        "  VMAs                    size  prot     pages  pgoff",
        "~ 0x0-0x2000             8 KiB  rw-p         2  0x0  unfaulted locked",
        "- 0x4000-0x5000          4 KiB  rw-p         0  0x4  unfaulted",
        "+ 0x8000-0x9000          4 KiB  rw-p         0  0x8  unfaulted",
        "  tables",
        "       0x0 PUD table         1/4 |#   |",
        "~      0x0  PMD table        1/4 |# . |",
        "~      0x0   PTE table       2/4 |##  |",
    ]


def test_change_from_nothing_and_to_the_same() -> None:
    full = draw(stack_move())
    header = "linux-6.1 on x86-64: 0 VMAs, page tables 0 B"
    assert draw_change(full, full) == "\n".join(f"  {line}" for line in full.splitlines())
    marks = [line[0] for line in draw_change(header, full).splitlines()]
    assert marks == ["~", *"+" * (len(full.splitlines()) - 1)]


def test_colour_only_when_asked_for() -> None:
    space = stack_move()
    before, after = draw(empty("x86-64")), draw(space)
    assert "\033[32m+ tables\033[0m" in draw_change(before, after, colour=True)
    assert "\033" not in draw_change(before, after)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (4096, "4 KiB"),
        (0x500000, "5 MiB"),
        (0x180000, "1.5 MiB"),
        (512 << 30, "512 GiB"),
        ((1 << 47) - 4096, "128.0 TiB"),
    ],
)
def test_readable_bytes(value: int, text: str) -> None:
    assert readable_bytes(value) == text

"""The exec stack move: when it meets an occupied entry, and that it never does with realignment."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.geometry import GEOMETRIES, PTE
from engine.base.kernel import Kernel, kernel_named
from engine.base.points import PMD_OCCUPIED, PUD_OCCUPIED, Point
from engine.base.uapi import (
    MADV_COLLAPSE,
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    UFFDIO_REGISTER_MODE_WP,
    Errno,
)
from engine.calls.madvise import madvise
from engine.calls.mmap import mmap
from engine.pages.uffd import uffd_register
from engine.stack import execve_stack, relocate
from engine.state.space import AddressSpace
from fuzz.rules.judge import check_state
from fuzz.rules.stack import expected_stack_warnings
from tests.lib.drawn import PAGE, scene, shown, tiny
from tests.lib.explains import explains
from tests.lib.listening import at

PAE = GEOMETRIES["i386-pae"]


def warnings(kernel: Kernel, start: int, end: int, shift: int) -> tuple[int, int]:
    """Occupied PMD and PUD entries met by one stack move; the state afterwards must be sound."""
    met: Counter[str] = Counter()

    @at(PMD_OCCUPIED, PUD_OCCUPIED)
    def count(space: AddressSpace, point: Point) -> None:
        met[point.name] += 1

    space = AddressSpace(kernel, [count])
    assert execve_stack(space, start, end, shift) is None
    assert [vma.range for vma in space.vmas] == [(start - shift, end - shift)]
    assert len(space.contents()) == (end - start) >> space.geometry.page_shift
    assert not check_state(space)
    occupied = met[PMD_OCCUPIED], met[PUD_OCCUPIED]
    assert [v.rule for v in space.violations] == ["dest-entry-none"] * sum(occupied)
    return occupied


def by_formula(start: int, end: int, shift: int, entry: int) -> int:
    """floor(m / k): m whole entries above a partial first one, a shift of k whole entries."""
    if start % entry == 0 or shift % entry or shift == 0:
        return 0
    whole = (end - (start // entry + 1) * entry) // entry
    return max(whole, 0) // (shift // entry)


def tiny_moves() -> Iterator[tuple[int, int, int]]:
    """Every start, end and shift of a stack of up to 6 slots that ends in the last PUD entry."""
    page = GEOMETRIES["tiny"].page_bytes
    for end in range(241, 257):
        for start in range(end - 24, end):
            for shift in range(0, 25):
                yield start * page, end * page, shift * page


@pytest.mark.slow
def test_the_warning_fires_exactly_by_formula_on_tiny_and_never_with_realignment() -> None:
    old, new = kernel_named("linux-6.1", "tiny"), kernel_named("linux-6.12", "tiny")
    slot, pud = old.geometry.slot_bytes, old.geometry.pud_bytes
    fired = 0
    for start, end, shift in tiny_moves():
        expected = by_formula(start, end, shift, slot)
        where = f"{start:#x} {end:#x} {shift:#x}"
        assert warnings(old, start, end, shift) == (expected, by_formula(start, end, shift, pud)), (
            where
        )
        assert warnings(new, start, end, shift)[0] == 0, where
        fired += expected
    assert fired > 1000


@explains("empty-table-swapped")
def test_realignment_leaves_pud_entries_to_chance() -> None:
    """Whole PMD tables move by PUD entries where a stack covers them; only tiny has such stacks.

    The stack begins inside a PUD entry, on a slot boundary: nothing to realign, and the PMD table
    emptied by the first steps is met again by the PUD mover.
    """
    kernel = kernel_named("linux-6.12", "tiny")
    assert warnings(kernel, 0xD8000, 0xF0000, 0x10000) == (0, 1)
    assert warnings(kernel, 0xD0000, 0xF0000, 0x10000) == (0, 0)
    assert warnings(replace(kernel, swaps_empty_pmd_table=True), 0xD8000, 0xF0000, 0x10000) == (
        0,
        0,
    )


def test_only_an_empty_table_is_swapped() -> None:
    """Without realignment the head leaves a PTE table in the PMD table that comes next."""
    kernel = replace(kernel_named("linux-6.1", "tiny"), swaps_empty_pmd_table=True)
    assert warnings(kernel, 0xD7000, 0xF0000, 0x10000)[1] == 1
    assert warnings(kernel, 0xD8000, 0xF0000, 0x10000) == (0, 0)


@st.composite
def stack_moves(draw: st.DrawFn, name: str) -> tuple[int, int, int]:
    """A stack in the arena's top, with shifts that are often whole slots."""
    geometry = GEOMETRIES[name]
    page, slot = geometry.page_bytes, geometry.slot_bytes
    in_slot = slot // page
    top = geometry.arena.end
    end = top - draw(st.integers(0, 3)) * slot - draw(st.sampled_from([0, 1, in_slot - 1])) * page
    pages = draw(st.integers(1, 6 * in_slot))
    slots = draw(st.integers(0, 7))
    shift = slots * slot + draw(st.sampled_from([0, 0, 0, 1, in_slot // 2])) * page
    return end - pages * page, end, shift


@given(stack_moves("x86-64"))
def test_the_warning_fires_exactly_by_formula_on_x86_64(move: tuple[int, int, int]) -> None:
    old = kernel_named("linux-6.1")
    assert warnings(old, *move) == (by_formula(*move, old.geometry.slot_bytes), 0)
    assert warnings(kernel_named("linux-6.18"), *move) == (0, 0)


@given(stack_moves("i386-pae"))
def test_the_warning_fires_exactly_by_formula_on_pae(move: tuple[int, int, int]) -> None:
    old = kernel_named("linux-6.1", "i386-pae")
    assert warnings(old, *move) == (by_formula(*move, old.geometry.slot_bytes), 0)
    assert warnings(kernel_named("linux-6.18", "i386-pae"), *move) == (0, 0)


@explains("stack-fits", "stack-compacted")
def test_the_recorded_pae_report_warns_once_where_it_was_recorded() -> None:
    space = AddressSpace(kernel_named("linux-6.1", "i386-pae"))
    assert execve_stack(space, 0xBFB00000, 0xC0000000, 0x400000) is None
    (violation,) = space.violations
    assert violation.rule == "dest-entry-none"
    assert violation.where == (0xBFA00000, 0xBFC00000)  # 0xbfe00000 is due there


def shifts_that_warn(length: int) -> list[int]:
    """Of those that stack randomization of i386 PAE may choose, for arguments of so many bytes.

    Up to 2,047 pages of randomize_stack_top(), and one of arch_align_stack() half of the time.
    """
    slot, page = PAE.slot_bytes, PAE.page_bytes
    shifts = range(0, 2049 * page, page)
    top = PAE.user_top
    return [shift for shift in shifts if by_formula(top - length, top, shift, slot)]


@pytest.mark.parametrize(
    ("length", "shifts"),
    [
        (0x200000, []),
        (0x201000, [0x200000]),
        (0x3FF000, [0x200000]),
        (0x400000, []),
        (0x500000, [0x200000, 0x400000]),
        (0x5FF000, [0x200000, 0x400000]),
        (0x600000, []),
    ],
)
def test_how_many_of_2048_shifts_warn(length: int, shifts: list[int]) -> None:
    """So no arguments warn at each exec; for the warning with one, its shift has to be given."""
    assert shifts_that_warn(length) == shifts
    kernel, top = kernel_named("linux-6.1", "i386-pae"), PAE.user_top
    for shift in (0x200000, 0x400000):
        near = (shift - PAE.page_bytes, shift, shift + PAE.page_bytes)
        met = [warnings(kernel, top - length, top, one)[0] > 0 for one in near]
        assert met == [False, shift in shifts, False]


def test_the_fewest_arguments_that_warn() -> None:
    """Of all sizes that execve(2) takes, three quarters of 8 MiB."""
    page, slot = PAE.page_bytes, PAE.slot_bytes
    sizes = [page, *(n * slot + part * page for n in (1, 2, 3) for part in (-1, 0, 1))]
    warn = [size for size in sizes if size < 6 << 20 and shifts_that_warn(size)]
    assert warn[0] == slot + page
    assert max(len(shifts_that_warn(size)) for size in warn) == 2


@pytest.mark.parametrize("name", ["linux-5.0", "linux-6.1", "linux-6.7", "linux-6.18"])
def test_the_rule_on_the_number_of_warnings_holds_on_tiny(name: str) -> None:
    kernel = kernel_named(name, "tiny")
    space = AddressSpace(kernel)
    for move in islice(tiny_moves(), 0, None, 23):  # not a divisor: every shift comes
        assert expected_stack_warnings(space, *move) == sum(warnings(kernel, *move)), move


@pytest.mark.parametrize(
    ("start", "end", "shift"), [(0x1001, 0x3000, 0), (0x3000, 0x3000, 0), (0x4000, 0x3000, 0)]
)
def test_bad_operands_change_nothing(start: int, end: int, shift: int) -> None:
    space = AddressSpace(kernel_named("linux-6.18", "i386"))
    mmap(space, 0x100000, 0x1000, 3, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED)
    assert execve_stack(space, start, end, shift) is Errno.EINVAL
    assert [vma.range for vma in space.vmas] == [(0x100000, 0x101000)]


@pytest.mark.parametrize(
    "shift",
    [
        0xBFFF8000,  # the new top is below mmap_min_addr
        0xBFF00000,  # no room for the arguments below the new top (B-21)
        0xFFF00000,  # would wrap
    ],
)
def test_a_stack_that_does_not_fit_is_an_error_not_an_assertion(shift: int) -> None:
    space = AddressSpace(kernel_named("linux-6.18", "i386"))
    assert execve_stack(space, 0xBFF00000, 0xC0000000, shift) is Errno.ENOMEM
    assert not list(space.vmas)
    assert not space.violations
    assert space.next_tag == 0x101  # the arguments had been written


@explains("relocate-no-such-vma")
def test_relocate_refuses_what_is_in_the_way() -> None:
    space = AddressSpace(kernel_named("linux-6.12", "tiny"))
    fixed = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
    mmap(space, 0x20000, 0x4000, 3, fixed)
    assert relocate(space, 0x20000, 0x24000, 0x4000) is Errno.EFAULT  # it has no pages
    assert relocate(space, 0x30000, 0x34000, 0x4000) is Errno.EFAULT
    mmap(space, 0x1C000, 0x1000, 3, fixed)
    assert relocate(space, 0x20000, 0x24000, 0x8000) is Errno.EFAULT


@explains("stack-half-moved")
def test_a_failed_allocation_ends_exec_with_nothing_mapped() -> None:
    space = AddressSpace(kernel_named("linux-6.12", "tiny"))
    fail_from = 6  # the stack itself needs four tables and the path to them
    original = space.reset

    def reset_and_refuse() -> None:
        original()
        space.tree.refuse = lambda number: number >= fail_from

    space.reset = reset_and_refuse  # type: ignore[method-assign]
    assert execve_stack(space, 0xF1000, 0x100000, 0x41000) is Errno.ENOMEM
    assert not list(space.vmas)
    assert space.tree.bytes_used() == 0


@explains("stack-expects-emptied")
@pytest.mark.parametrize(
    ("before", "after", "warned"),
    [
        (".... a... ..BB BBBB", ".... a.BB BBBB ....", 0),
        (".... .... ..AA AAAA", ".... ..AA AAAA ....", 1),
    ],
)
def test_tables_are_expected_only_where_neighbours_leave_them(
    before: str, after: str, warned: int
) -> None:
    """A stack that could have been realigned and was not is still worth a warning."""
    kernel = replace(tiny("linux-6.12"), stack_expects_emptied=True, realign_stack=False)
    space = scene(before, kernel)
    assert relocate(space, 10 * PAGE, 16 * PAGE, 4 * PAGE) is None
    assert shown(space, 4) == after
    assert [v.rule for v in space.violations] == ["dest-entry-none"] * warned


@pytest.mark.parametrize("watched", [False, True])
def test_a_watched_stack_expects_tables_as_it_must_not_move_them(watched: bool) -> None:
    """A huge page in it meets one; until 6.4 that is worth a warning."""
    kernel = replace(tiny("linux-6.1"), realign_stack=watched, uffd_checks_both=True)
    space = scene(".... .... ...A AAAA", replace(kernel, stack_expects_emptied=True))
    assert madvise(space, 12 * PAGE, 4 * PAGE, MADV_COLLAPSE) is None
    if watched:
        assert uffd_register(space, 11 * PAGE, 5 * PAGE, UFFDIO_REGISTER_MODE_WP, 0) is None
    assert relocate(space, 11 * PAGE, 16 * PAGE, 4 * PAGE) is None
    assert [v.rule for v in space.violations] == ["dest-entry-none"] * (not watched)


@pytest.mark.parametrize("stray", [False, True])
def test_an_expected_table_maps_nothing(stray: bool) -> None:
    """The stack covers a PUD entry, too: there a PMD table has an emptied PTE table."""
    kernel = replace(tiny("linux-6.12"), stack_expects_emptied=True)
    space = scene(".... .a.. .... .... .... ..BB BBBB BBBB BBBB BBBB BBBB BBBB", kernel)
    if stray:
        table = space.tree.find(20 * PAGE, PTE)
        assert table is not None
        space.tree.put(table, 0, table.leaves[2])
    assert relocate(space, 22 * PAGE, 48 * PAGE, 16 * PAGE) is None
    assert [v.rule for v in space.violations] == ["dest-entry-none"] * 3 * stray

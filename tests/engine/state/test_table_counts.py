"""Page-table bytes measured on real kernels: the table of the specification's 7.7.

x86-64, A = 0x100000000000, B = A + 1 GiB, every page touched unless said otherwise.  Numbers are kB
before and after the call, on Linux 6.1 and on 6.12.
"""

import pytest

from engine.base.kernel import kernel_named
from engine.base.uapi import (
    MAP_ANONYMOUS,
    MAP_FIXED,
    MAP_PRIVATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
)
from engine.calls.mmap import mmap, munmap
from engine.mremap import mremap
from engine.pages.fault import touch
from engine.state.space import AddressSpace

A = 1 << 44
B = A + (1 << 30)
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PLAIN = MREMAP_MAYMOVE | MREMAP_FIXED
DU = PLAIN | MREMAP_DONTUNMAP


class Bench:
    """A space, and the kB of page tables in it."""

    def __init__(self, kernel: str) -> None:
        self.space = AddressSpace(kernel_named(kernel))

    def map(self, addr: int, length: int, *, touched: bool = True) -> None:
        flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
        assert mmap(self.space, addr, length, 3, flags) == addr
        if touched:
            assert not touch(self.space, addr, addr + length)

    def move(self, old: int, new: int, length: int, flags: int) -> tuple[int, int]:
        before = self.kib
        assert mremap(self.space, old, length, length, flags, new) == new
        return before, self.kib

    def unmap(self, addr: int, length: int) -> tuple[int, int]:
        before = self.kib
        assert munmap(self.space, addr, length) is None
        return before, self.kib

    @property
    def kib(self) -> int:
        return self.space.tree.bytes_used() // KIB


SIMPLE = [
    # old, new, length, flags, 6.1, 6.12
    pytest.param(A, B, 4 * MIB, PLAIN, (16, 16), (16, 16), id="aligned 4 MiB"),
    pytest.param(A, B, 4 * MIB, DU, (16, 20), (16, 20), id="aligned 4 MiB, DU"),
    pytest.param(A + 4096, B + 8192, 4 * MIB, PLAIN, (20, 20), (20, 20), id="unaligned"),
    pytest.param(A + 4096, B + 8192, 4 * MIB, DU, (20, 36), (20, 36), id="unaligned, DU"),
    pytest.param(
        A + 0x101000, B + 0x101000, 8 * MIB, DU, (28, 40), (28, 36), id="mutually aligned 8 MiB, DU"
    ),
    pytest.param(
        A + 0x101000, B + 0x101000, 512 * KIB, DU, (12, 20), (12, 20), id="inside one slot, DU"
    ),
    pytest.param(
        A + 0x101000,
        B + 0x101000,
        0xFF000,
        DU,
        (12, 20),
        (12, 16),
        id="exactly to the slot end, DU",
    ),
    pytest.param(A + 0x101000, B + 0x101000, 0xFE000, DU, (12, 20), (12, 20), id="too short, DU"),
    pytest.param(A, B, GIB, DU, (2056, 2056), (2056, 2056), id="1 GiB aligned, DU"),
    pytest.param(A + MIB, A - MIB, 2 * MIB, PLAIN, (16, 24), (16, 24), id="the thread's program"),
    pytest.param(A + MIB, A - 5 * MIB, 2 * MIB, PLAIN, (16, 16), (16, 16), id="A + 1M to A - 5M"),
]


@pytest.mark.parametrize(("old", "new", "length", "flags", "on_6_1", "on_6_12"), SIMPLE)
def test_a_single_mapping(
    old: int,
    new: int,
    length: int,
    flags: int,
    on_6_1: tuple[int, int],
    on_6_12: tuple[int, int],
) -> None:
    for kernel, expected in (
        ("linux-6.1", on_6_1),
        ("linux-6.12", on_6_12),
        ("linux-6.18", on_6_12),
    ):
        bench = Bench(kernel)
        bench.map(old, length)
        assert bench.move(old, new, length, flags) == expected, kernel
        bench.unmap(old, length)
        bench.unmap(new, length)
        assert bench.kib == 0, kernel


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.18"])
def test_one_page_mapped_below_new_in_its_slot(kernel: str) -> None:
    bench = Bench(kernel)
    bench.map(A + 0x101000, 8 * MIB)
    bench.map(B, 4096)
    assert bench.move(A + 0x101000, B + 0x101000, 8 * MIB, DU) == (36, 40)


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.18"])
def test_one_page_mapped_below_old_in_its_slot(kernel: str) -> None:
    bench = Bench(kernel)
    bench.map(A + 0x101000, 8 * MIB)
    bench.map(A, 4096)
    assert bench.move(A + 0x101000, B + 0x101000, 8 * MIB, DU) == (28, 40)


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.18"])
def test_the_source_starts_one_page_into_its_vma(kernel: str) -> None:
    bench = Bench(kernel)
    bench.map(A + 0x100000, 8 * MIB + 4096)
    assert bench.move(A + 0x101000, B + 0x101000, 8 * MIB, DU) == (28, 40)


@pytest.mark.parametrize(
    ("kernel", "after"), [("linux-6.1", 40), ("linux-6.12", 36), ("linux-6.18", 36)]
)
def test_an_untouched_vma_directly_above_the_destination(kernel: str, after: int) -> None:
    bench = Bench(kernel)
    bench.map(A + 0x101000, 8 * MIB)
    bench.map(B + 0x101000 + 8 * MIB, 4096, touched=False)
    assert bench.move(A + 0x101000, B + 0x101000, 8 * MIB, DU) == (28, after)
    assert len(list(bench.space.vmas)) == 3


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.18"])
def test_a_mapping_never_touched_needs_no_table(kernel: str) -> None:
    bench = Bench(kernel)
    bench.map(A, 8 * MIB, touched=False)
    assert bench.move(A, B, 8 * MIB, DU) == (0, 0)


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.18"])
def test_two_vmas_in_one_slot_share_its_table_until_the_last_goes(kernel: str) -> None:
    bench = Bench(kernel)
    bench.map(A, 4096)
    bench.map(A + 8192, 4096)
    assert bench.unmap(A, 4096) == (12, 12)
    assert bench.unmap(A + 8192, 4096) == (12, 0)


@pytest.mark.parametrize("kernel", ["linux-6.1", "linux-6.12", "linux-6.18"])
@pytest.mark.parametrize(
    ("mapped", "hole", "expected"), [(4 * MIB, 2 * MIB, (16, 16)), (8 * MIB, 6 * MIB, (24, 16))]
)
def test_only_slots_that_are_wholly_free_lose_their_table(
    kernel: str, mapped: int, hole: int, expected: tuple[int, int]
) -> None:
    bench = Bench(kernel)
    bench.map(A, mapped)
    assert bench.unmap(A + 4096, hole) == expected

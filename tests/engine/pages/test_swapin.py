"""How an object's folios come back from swap."""

from engine.base.kernel import kernel_named
from engine.pages.swapin import swap_in
from engine.state.backing import Shmem
from engine.state.space import AddressSpace


def in_swap() -> tuple[AddressSpace, Shmem, int]:
    """An object with a large folio of x86-64 that is in swap, and the folio's first frame."""
    space = AddressSpace(kernel_named("linux-6.18"))
    backing = space.new_shmem(1024)
    first = space.frames.allocate_large(512, 512, backing)
    backing.pages.update(zip(range(512, 1024), range(first, first + 512), strict=True))
    backing.swapped.update(range(512, 1024))
    return space, backing, first


def test_all_of_a_folio_comes_back() -> None:
    space, backing, first = in_swap()
    swap_in(space, backing, 700)
    assert not backing.swapped
    assert space.frames.large == {first}
    swap_in(space, backing, 700)


def test_alone_it_cuts_what_stays_in_swap() -> None:
    space, backing, first = in_swap()
    swap_in(space, backing, 512 + 9, alone=True)
    assert set(range(512, 1024)) - backing.swapped == {512 + 9}
    assert not space.frames.large
    assert space.frames.pieces == {first + 32: 32} | {first + i: 64 for i in range(64, 512, 64)}
    swap_in(space, backing, 512 + 64)
    assert backing.swapped.isdisjoint(range(512 + 64, 512 + 128))
    assert len(backing.swapped) == 511 - 64
    swap_in(space, backing, 512 + 10)
    assert len(backing.swapped) == 511 - 64 - 1

"""When VMAs become one: every condition on its own, and both sides at once."""

from dataclasses import dataclass

import pytest

from engine.base.failures import Failures
from engine.base.kernel import kernel_named
from engine.base.limits import Limits
from engine.state.backing import ANONYMOUS, Backing, Shmem
from engine.state.vma import (
    VM_EXEC,
    VM_LOCKED,
    VM_READ,
    VM_WRITE,
    AnonVma,
    Vma,
    VmaTree,
)
from engine.vmas.merge import (
    Proposal,
    anon_vmas_compatible,
    merge_modified,
    merge_new,
    modify,
    reusable_anon_vma,
)
from tests.lib.explains import explains

P = 0x1000
RW = VM_READ | VM_WRITE
OLD, NEW, LATEST = (kernel_named(name) for name in ("linux-6.1", "linux-6.12", "linux-6.18"))
ONE, TWO = AnonVma(1), AnonVma(2)
FILE, OTHER = Shmem(1, 100), Shmem(2, 100)


@dataclass(frozen=True)
class At:
    """A neighbour or a proposal, by default one that merges wherever it touches."""

    start: int
    end: int
    flags: int = RW
    shift: int = 0  # pages its offset differs from its address
    anon_vma: AnonVma | None = None
    backing: Backing = ANONYMOUS

    def vma(self) -> Vma:
        pgoff = self.start + self.shift
        return Vma(self.start * P, self.end * P, self.flags, pgoff, self.anon_vma, self.backing)

    def proposal(self) -> Proposal:
        pgoff = self.start + self.shift
        vma = self.vma()
        return Proposal(vma.start, vma.end, vma.flags, pgoff, vma.anon_vma, vma.backing, vma)


def tree_of(*places: At) -> VmaTree:
    tree = VmaTree(12, Failures(), Limits())
    for place in places:
        tree.insert(place.vma())
    return tree


def ranges(tree: VmaTree) -> list[tuple[int, int]]:
    return [(vma.start // P, vma.end // P) for vma in tree]


CONDITIONS = [
    pytest.param(At(4, 8), True, id="alike"),
    pytest.param(At(4, 8, flags=VM_READ), False, id="other protection"),
    pytest.param(At(4, 8, flags=RW | VM_LOCKED), False, id="other flags"),
    pytest.param(At(4, 8, shift=1), False, id="page offsets apart"),
    pytest.param(At(4, 8, backing=FILE), False, id="a file"),
    pytest.param(At(4, 8, anon_vma=ONE), True, id="faulted neighbour"),
]


@explains("merge-new-left", "merge-new-right")
@pytest.mark.parametrize(("neighbour", "merges"), CONDITIONS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("kernel", [OLD, NEW, LATEST], ids=lambda kernel: kernel.name)
def test_each_condition_on_each_side(
    kernel: object, side: str, neighbour: At, merges: bool
) -> None:
    new = At(8, 10) if side == "left" else At(2, 4)
    tree = tree_of(neighbour)
    merged = merge_new(kernel, tree, new.proposal())  # type: ignore[arg-type]
    assert (merged is not None) is merges
    if merged is not None:
        assert ranges(tree) == [(4, 10) if side == "left" else (2, 8)]
        assert merged is next(iter(tree))
        assert merged.pgoff == merged.start // P
        assert merged.anon_vma is neighbour.anon_vma


def test_neighbours_that_do_not_touch_do_not_merge() -> None:
    tree = tree_of(At(0, 3), At(9, 12))
    assert merge_new(NEW, tree, At(4, 8).proposal()) is None
    assert ranges(tree) == [(0, 3), (9, 12)]


def test_the_same_file_merges_another_does_not() -> None:
    tree = tree_of(At(0, 4, backing=FILE), At(8, 12, backing=OTHER))
    assert merge_new(NEW, tree, At(4, 8, backing=FILE).proposal()) is not None
    assert ranges(tree) == [(0, 8), (8, 12)]


@explains("merge-same-anon-vma", "merge-unfaulted", "merge-links-source")
@pytest.mark.parametrize(
    ("ours", "neighbours", "before", "since_6_16"),
    [
        (None, None, True, True),
        (None, ONE, True, True),
        (ONE, None, False, True),
        (ONE, ONE, True, True),
        (ONE, TWO, False, False),
    ],
)
def test_anon_vmas(
    ours: AnonVma | None, neighbours: AnonVma | None, before: bool, since_6_16: bool
) -> None:
    assert anon_vmas_compatible(OLD, ours, neighbours) is before
    assert anon_vmas_compatible(NEW, ours, neighbours) is before
    assert anon_vmas_compatible(LATEST, ours, neighbours) is since_6_16
    tree = tree_of(At(0, 4, anon_vma=neighbours))
    merged = merge_new(LATEST, tree, At(4, 8, anon_vma=ours).proposal())
    assert (merged is not None) is since_6_16
    if merged is not None:
        assert merged.anon_vma is (ours or neighbours)


@pytest.mark.parametrize(
    ("left", "right", "after"),
    [
        (None, None, [(0, 12)]),
        (ONE, None, [(0, 12)]),
        (None, ONE, [(0, 12)]),
        (ONE, ONE, [(0, 12)]),
        (ONE, TWO, [(0, 8), (8, 12)]),  # left goes first
    ],
)
def test_both_sides_at_once(
    left: AnonVma | None, right: AnonVma | None, after: list[tuple[int, int]]
) -> None:
    tree = tree_of(At(0, 4, anon_vma=left), At(8, 12, anon_vma=right))
    merged = merge_new(NEW, tree, At(4, 8).proposal())
    assert ranges(tree) == after
    assert merged is not None
    assert merged.anon_vma is (left or right)


@explains("merge-new-prefers-right", "merge-new-three")
@pytest.mark.parametrize(
    ("kernel", "left", "right", "after"),
    [
        (OLD, None, ONE, [(0, 4), (4, 12)]),  # before 6.12 mmap preferred the right one
        (NEW, None, ONE, [(0, 12)]),
        (OLD, ONE, None, [(0, 12)]),
        (OLD, ONE, TWO, [(0, 4), (4, 12)]),
        (NEW, ONE, TWO, [(0, 8), (8, 12)]),
    ],
)
def test_both_sides_of_an_mmap(
    kernel: object, left: AnonVma | None, right: AnonVma | None, after: list[tuple[int, int]]
) -> None:
    tree = tree_of(At(0, 4, anon_vma=left), At(8, 12, anon_vma=right))
    merge_new(kernel, tree, At(4, 8).proposal(), mmap=True)  # type: ignore[arg-type]
    assert ranges(tree) == after


def test_a_neighbour_to_be_avoided_takes_no_part() -> None:
    tree = tree_of(At(0, 4), At(8, 12))
    left, right = tree
    assert merge_new(NEW, tree, At(4, 8).proposal(), avoid=left) is right
    assert ranges(tree) == [(0, 4), (4, 12)]
    assert right.pgoff == 4
    tree = tree_of(At(0, 4))
    (left,) = tree
    assert merge_new(NEW, tree, At(4, 8).proposal(), avoid=left) is None


# --- flags of a part change ----------------------------------------------------------------------

R = VM_READ
MODIFIED = [
    # neighbours, the VMA [4, 8) turns read-only in [start, end), after
    pytest.param([], 4, 8, [(4, 8)], id="all of it, nobody around"),
    pytest.param([], 5, 8, [(4, 5), (5, 8)], id="its upper part"),
    pytest.param([], 4, 6, [(4, 6), (6, 8)], id="its lower part"),
    pytest.param([], 5, 7, [(4, 5), (5, 7), (7, 8)], id="its middle"),
    pytest.param([At(0, 4, R)], 4, 6, [(0, 6), (6, 8)], id="the left one grows"),
    pytest.param([At(8, 12, R)], 6, 8, [(4, 6), (6, 12)], id="the right one grows"),
    pytest.param([At(0, 4, R)], 4, 8, [(0, 8)], id="the left one takes all"),
    pytest.param([At(8, 12, R)], 4, 8, [(4, 12)], id="the right one takes all"),
    pytest.param([At(0, 4, R), At(8, 12, R)], 4, 8, [(0, 12)], id="three become one"),
    pytest.param(
        [At(0, 4, R), At(8, 12, R)], 5, 7, [(0, 4), (4, 5), (5, 7), (7, 8), (8, 12)], id="no"
    ),
    pytest.param([At(0, 4, R, shift=1)], 4, 8, [(0, 4), (4, 8)], id="offsets apart"),
]


@explains("merge-modified-three", "modify-splits-below", "modify-splits-above")
@pytest.mark.parametrize(("neighbours", "start", "end", "after"), MODIFIED)
def test_modified_parts(
    neighbours: list[At], start: int, end: int, after: list[tuple[int, int]]
) -> None:
    tree = tree_of(At(4, 8), *neighbours)
    vma = tree.lookup(4 * P)
    assert vma is not None
    result = modify(NEW, tree, vma, start * P, end * P, R)
    assert ranges(tree) == after
    assert result.start <= start * P < end * P <= result.end
    for page in range(4, 8):
        there = tree.lookup(page * P)
        assert there is not None
        assert there.flags == (R if start <= page < end else RW)
        if not any(n.shift for n in neighbours):
            assert there.pgoff == there.start // P


def test_the_same_flags_change_nothing() -> None:
    tree = tree_of(At(4, 8), At(8, 12))
    vma = tree.lookup(4 * P)
    assert vma is not None
    assert modify(NEW, tree, vma, 5 * P, 6 * P, RW) is vma
    assert ranges(tree) == [(4, 8), (8, 12)]


def test_the_anon_vma_survives_in_what_took_the_part() -> None:
    tree = tree_of(At(0, 4, R), At(4, 8, anon_vma=ONE))
    vma = tree.lookup(4 * P)
    assert vma is not None
    assert merge_modified(OLD, tree, vma, 4 * P, 6 * P, R) is None  # faulted into unfaulted
    merged = merge_modified(LATEST, tree, vma, 4 * P, 6 * P, R)
    assert merged is not None
    assert merged.anon_vma is ONE
    assert ranges(tree) == [(0, 6), (6, 8)]


# --- sharing an anon_vma -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("neighbour", "shares"),
    [
        pytest.param(At(0, 4, anon_vma=ONE), True, id="below"),
        pytest.param(At(8, 12, anon_vma=ONE), True, id="above"),
        pytest.param(At(8, 12, flags=R, anon_vma=ONE), True, id="protection does not matter"),
        pytest.param(At(8, 12, flags=RW | VM_EXEC, anon_vma=ONE), True, id="nor does exec"),
        pytest.param(At(8, 12, flags=RW | VM_LOCKED, anon_vma=ONE), False, id="other flags do"),
        pytest.param(At(8, 12, shift=1, anon_vma=ONE), False, id="offsets apart"),
        pytest.param(At(9, 12, anon_vma=ONE), False, id="apart"),
        pytest.param(At(8, 12), False, id="unfaulted"),
    ],
)
def test_an_anon_vma_is_shared_with_what_might_merge_later(neighbour: At, shares: bool) -> None:
    tree = tree_of(At(4, 8), neighbour)
    vma = tree.lookup(4 * P)
    assert vma is not None
    assert reusable_anon_vma(tree, vma) is (ONE if shares else None)

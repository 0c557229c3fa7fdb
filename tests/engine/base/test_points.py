"""Points: each is announced somewhere, and with the locks that the kernel holds there."""

import pytest

from engine.base import points
from engine.base.kernel import kernel_named
from engine.base.points import (
    ANON_VMA,
    I_MMAP,
    MMAP_READ,
    MMAP_WRITE,
    NONE,
    PAGE_TABLES,
    RMAP,
    Point,
)
from engine.state.space import AddressSpace
from fuzz.execute import execute
from fuzz.forms.text import parse
from fuzz.showing import kernel_for
from tests.lib.constants import ROOT
from tests.lib.listening import Listening

NAMES = frozenset(v for k, v in vars(points).items() if k.isupper() and isinstance(v, str))
RMAP_LOCKS = {0, ANON_VMA, I_MMAP, RMAP}
OF_A_MOVE = {MMAP_WRITE, MMAP_WRITE | I_MMAP}  # the second of hugetlb
HELD = {
    **dict.fromkeys(points.STEPS, OF_A_MOVE),
    **{
        name: {MMAP_WRITE | PAGE_TABLES | rmap for rmap in RMAP_LOCKS}
        for name in (points.PTES_MOVED, points.HUGE_MOVED)
    },
    **{
        name: {MMAP_WRITE | PAGE_TABLES | rmap for rmap in (ANON_VMA, I_MMAP, RMAP)}
        for name in (points.PMD_MOVED, points.PUD_MOVED)
    },
    **{
        name: {MMAP_WRITE | rmap for rmap in RMAP_LOCKS}
        for name in (points.PMD_OCCUPIED, points.PUD_OCCUPIED)
    },
    points.MOVE_PTES: {MMAP_WRITE},
    points.MOVE_PMD: {MMAP_WRITE},
    points.MOVE_PUD: {MMAP_WRITE},
    points.MOVE_HUGE: {MMAP_WRITE},
    points.VMA_COPIED: {MMAP_WRITE},
    points.MREMAP_UNLOCKED: {NONE},
    points.RELOCATE_VMA_DOWN: {MMAP_WRITE},
    points.UNMAP_VMAS: {MMAP_WRITE},
    points.FREE_PGTABLES: {MMAP_WRITE},
    points.HANDLE_MM_FAULT: {MMAP_READ},
    points.ALLOC_CHARGE_FOLIO: {NONE},
    points.COLLAPSE_HUGE_PAGE: {MMAP_WRITE | ANON_VMA},
    points.COLLAPSE_FILE: {NONE},
    points.RETRACT_PAGE_TABLES: {I_MMAP},
    points.TRY_TO_UNMAP: {ANON_VMA, I_MMAP},
    points.TRY_TO_UNMAP_FLUSH: {NONE},
    points.TRY_TO_MIGRATE: {ANON_VMA, I_MMAP},
    points.REMOVE_MIGRATION_PTES: {ANON_VMA, I_MMAP},
    **{
        name: {
            NONE,
            MMAP_WRITE,
            MMAP_WRITE | PAGE_TABLES,
            MMAP_WRITE | PAGE_TABLES | ANON_VMA,
        }
        for name in (points.ACTS, points.ACTED)
    },
}


@pytest.fixture(scope="module")
def met() -> dict[str, set[int]]:
    """Which locks are held at each point, when the committed cases run."""
    found: dict[str, set[int]] = {}

    def note(_: AddressSpace, point: Point) -> None:
        assert point.start <= point.end
        found.setdefault(point.name, set()).add(point.held)

    for path in sorted((ROOT / "corpus").rglob("*.case")):
        case = parse(path.read_text(encoding="utf-8"))
        kernel = kernel_for(case, "linux-6.18")
        execute(case, kernel, stop=False, check=False, listeners=[Listening(NAMES, note)])
    return found


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_point_is_announced_with_its_locks(name: str, met: dict[str, set[int]]) -> None:
    assert met[name]
    assert met[name] <= HELD[name]


@pytest.mark.parametrize("name", points.ALWAYS_HELD)
def test_what_is_always_held_is_held(name: str) -> None:
    always = points.ALWAYS_HELD[name]
    assert all(held & always == always for held in HELD[name])


@pytest.mark.parametrize(("kernel", "locked"), [("linux-5.0", False), ("linux-6.1", True)])
def test_whole_tables_move_under_the_rmap_locks_since_cve_2022_41222(
    kernel: str, locked: bool
) -> None:
    held: list[int] = []
    hearing = Listening(frozenset((points.PMD_MOVED,)), lambda _, point: held.append(point.held))
    case = parse((ROOT / "corpus/seeds/move-aligned.case").read_text(encoding="utf-8"))
    execute(case, kernel_named(kernel), stop=False, listeners=[hearing])
    assert held
    assert all(bool(locks & RMAP) is locked for locks in held)


def test_nobody_hears_what_it_has_not_asked_for() -> None:
    """A point that nobody listens to is not made."""
    heard: list[str] = []
    space = AddressSpace(kernel_named("linux-6.18"))
    for names in (frozenset(("enter",)), frozenset(("leave", "enter"))):
        space.listen(Listening(names, lambda _, point: heard.append(point.name)))
    for name in ("enter", "iteration", "leave"):
        space.announce(name, 0, 0, NONE)
    assert heard == ["enter", "enter", "leave"]

"""Programs on larger tables: places keep their distance from the nearer end of each table."""

from itertools import pairwise

import pytest

from engine.base.geometry import GEOMETRIES, PTE
from engine.base.kernel import kernel_named
from fuzz.forms import text
from fuzz.forms.transpose import transposed
from fuzz.showing import showing

SMALL, LARGE = GEOMETRIES["small"], GEOMETRIES["x86-64"]
SLOT, BIG = SMALL.slot_bytes, LARGE.slot_bytes
MAP = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED"


def on_large(program: str) -> list[str]:
    case = transposed(text.parse(program), SMALL, LARGE)
    assert case.geometry == "x86-64"
    return [text.format_call(call) for call in case.calls]


@pytest.mark.parametrize(
    ("small", "large"),
    [
        (f"touch({SLOT:#x}, {SLOT:#x})", f"touch({BIG:#x}, {BIG:#x})"),
        (f"touch({SLOT - 0x1000:#x}, 0x2000)", f"touch({BIG - 0x1000:#x}, 0x2000)"),
        (f"touch({SLOT + 0x3000:#x}, 0x1800)", f"touch({BIG + 0x3000:#x}, 0x1800)"),
        ("munmap(0x400000, 0x400000)", "munmap(0x40000000, 0x40000000)"),
        (
            f"execve_stack({3 * SLOT:#x}, {5 * SLOT:#x}, {SLOT + 0x1000:#x})",
            f"execve_stack({3 * BIG:#x}, {5 * BIG:#x}, {BIG + 0x1000:#x})",
        ),
        (
            f"mremap({SLOT:#x}, 0x1000, {SLOT:#x}, MREMAP_MAYMOVE|MREMAP_FIXED, {4 * SLOT:#x})",
            f"mremap({BIG:#x}, 0x1000, {BIG:#x}, MREMAP_MAYMOVE|MREMAP_FIXED, {4 * BIG:#x})",
        ),
        ("mremap(0x1000, 0xfffffffffffff000, 0x1000, 0)",) * 2,
        (f"file(A, {SLOT - 0x1000:#x})", f"file(A, {BIG - 0x1000:#x})"),
        (
            f"mmap(0x0, 0x1000, PROT_READ, MAP_SHARED|MAP_FIXED, B, {SLOT + 0x1000:#x})",
            f"mmap(0x0, 0x1000, PROT_READ, MAP_SHARED|MAP_FIXED, B, {BIG + 0x1000:#x})",
        ),
    ],
)
def test_boundaries_stay_boundaries(small: str, large: str) -> None:
    assert on_large(small) == on_large_form(large)


def on_large_form(program: str) -> list[str]:
    return [text.format_call(call) for call in text.parse(program).calls]


def test_order_and_neighbours_are_kept() -> None:
    pages = [f"touch({page << 12:#x}, 0x1000)" for page in range(0, 3 * 32 * 32, 7)]
    starts = [
        call.args[0] for call in transposed(text.parse("\n".join(pages[:250])), SMALL, LARGE).calls
    ]
    assert all(one < other for one, other in pairwise(starts))
    assert transposed(text.parse(pages[5]), LARGE, LARGE).calls == text.parse(pages[5]).calls
    assert SMALL.index_mask[PTE] < LARGE.index_mask[PTE]


def test_what_small_tables_show_shows_on_a_machine() -> None:
    case = text.parse(
        "@geometry small\n"
        f"mmap({SLOT:#x}, {2 * SLOT:#x}, {MAP})\n"
        f"mlock({SLOT:#x}, 0x1000)\n"
        f"mremap({SLOT:#x}, 0x1000, 0x1000, "
        f"MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, {8 * SLOT:#x})\n"
    )
    shown = showing(case, kernel_named("linux-6.18", "small")).bucket
    assert shown is not None and shown.defect == "B-34"
    there = transposed(case, SMALL, LARGE)
    assert showing(there, kernel_named("linux-6.18")).bucket == shown

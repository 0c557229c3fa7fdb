"""Random programs: on a kernel with every fix no rule is broken, and no kernel breaks the engine.

The programs come from the fuzzer's own byte form, so a failure here is what a run would find.
"""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import KERNELS, Kernel, kernel_named
from engine.base.uapi import MAP_ANONYMOUS, MAP_FIXED, MAP_PRIVATE, MAP_SHARED
from engine.pages.access import touch_on
from engine.state.space import AddressSpace
from fuzz.calls.registry import MODELLED_CALLS, call
from fuzz.case import Case
from fuzz.defects.attribute import Shown
from fuzz.execute import execute
from fuzz.forms.text import dump, parse
from fuzz.forms.wire import WIDTH, Codec
from fuzz.rules.index import BY_SLUG
from fuzz.subjects.observe import observation
from tests.lib.constants import PAGE
from tests.lib.judged import Step, unexplained

FIXED_KERNEL = "linux-6.12"
RANDOM_GEOMETRIES = ("tiny", "x86-64", "i386-pae")
CODECS = {
    name: Codec(GEOMETRIES[name], calls=MODELLED_CALLS) for name in (*RANDOM_GEOMETRIES, "i386")
}
# Half of the examples are long: what breaks needs a mapping, pages and a move.
programs = st.one_of(
    st.binary(max_size=4 * WIDTH),
    st.binary(min_size=6 * WIDTH, max_size=12 * WIDTH),
)

FIXED_PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED
FIXED_SHARED = FIXED_PRIVATE ^ MAP_PRIVATE ^ MAP_SHARED


@st.composite
def crowded(draw: st.DrawFn) -> Case:
    """Few mappings and many moves on the 256 pages of tiny: places meet all the time."""
    places: list[tuple[int, int]] = []
    calls = []
    corners = st.sampled_from([0, 0, 0, 1, -1, 2])

    def page(unit: int) -> int:
        return min(max(draw(st.integers(0, 256 // unit - 1)) * unit + draw(corners), 0), 250)

    for _ in range(draw(st.integers(1, 4))):
        start = page(4)
        pages = min(draw(st.sampled_from([1, 3, 4, 5, 8, 16, 17, 33, 48])), 256 - start)
        flags = draw(st.sampled_from([FIXED_PRIVATE, FIXED_PRIVATE, FIXED_SHARED]))
        calls.append(call("mmap", start * PAGE, pages * PAGE, 3, flags))
        if draw(st.integers(0, 3)):
            first = start + draw(st.integers(0, pages - 1))
            calls.append(call("touch", first * PAGE, draw(st.integers(1, pages)) * PAGE))
        places.append((start, pages))
    for _ in range(draw(st.integers(1, 6))):
        start, pages = draw(st.sampled_from(places))
        inside = draw(st.sampled_from([0, 0, 0, 1, 4])) % pages
        start, pages = start + inside, pages - inside
        old = max(pages + draw(corners), 0)
        new = old if draw(st.integers(0, 3)) else max(old + draw(st.integers(-3, 9)), 0)
        target = page(16) if draw(st.booleans()) else page(4) + start % 4
        flags = draw(st.sampled_from([3, 3, 3, 7, 7, 1, 0, 5]))
        numbers = (start * PAGE, old * PAGE, new * PAGE, flags, target * PAGE)
        calls.append(call("mremap", *numbers))
        if new:
            places.append((target, new))
    return Case(tuple(calls))


def unexcused(case: Case, kernel: Kernel, on_step: Step | None = None) -> Shown | None:
    """What a run shows that no known defect of the kernel explains."""
    outcome = execute(case, kernel, stop=False, on_step=on_step)
    assert len(outcome.results) == len(case.calls)
    assert {found.violation.rule for found in outcome.violations} <= BY_SLUG.keys()
    return unexplained(outcome, on_step)


def check(case: Case, kernel: Kernel, on_step: Step | None = None) -> None:
    found = unexcused(case, kernel, on_step)
    assert found is None, "\n".join(
        ["", f"@kernel {kernel.name}", dump(case), f"call {found.call}: {found.violation}"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("geometry", RANDOM_GEOMETRIES)
@settings(max_examples=1000)
@given(data=programs)
def test_no_rule_is_broken_where_every_fix_is_in(geometry: str, data: bytes) -> None:
    check(CODECS[geometry].decode(data), kernel_named(FIXED_KERNEL, geometry))


@pytest.mark.slow
@settings(max_examples=500)
@given(case=crowded())
def test_no_rule_is_broken_in_a_crowd(case: Case) -> None:
    check(case, kernel_named(FIXED_KERNEL, "tiny"))


@pytest.mark.parametrize("geometry", [*RANDOM_GEOMETRIES, "i386"])
@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=50)
@given(data=programs)
def test_every_kernel_has_its_known_defects_only(kernel: str, geometry: str, data: bytes) -> None:
    """And no program breaks the engine, or moves contents elsewhere than the oracle says.

    Other CPUs touch pages after each call, and see no more than the tables say.
    """
    shifts = GEOMETRIES[geometry].entry_shift

    def look(index: int, space: AddressSpace) -> None:
        random = Random(data + bytes([index & 0xFF]))
        for base, table in space.tree.leaf_tables():
            for entry in random.sample(sorted(table.leaves), min(len(table.leaves), 3)):
                touch_on(space, entry, base + (entry << shifts[table.level]))

    check(CODECS[geometry].decode(data), kernel_named(kernel, geometry), look)


@pytest.mark.parametrize("kernel", KERNELS)
@settings(max_examples=100)
@given(case=crowded())
def test_every_kernel_has_its_known_defects_only_in_a_crowd(kernel: str, case: Case) -> None:
    check(case, kernel_named(kernel, "tiny"))


@given(data=programs)
def test_a_case_and_its_text_run_alike(data: bytes) -> None:
    case = CODECS["x86-64"].decode(data)
    kernel = kernel_named("linux-6.18")
    one, two = (execute(c, kernel, stop=False) for c in (case, parse(dump(case))))
    assert observation(one, "") == observation(two, "")
    assert [str(f.violation) for f in one.violations] == [str(f.violation) for f in two.violations]


EXCUSED = [
    pytest.param(
        "tiny",
        "error-traceless",
        "mmap(0x8000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "mremap(0x8000, 0xffffffffffff8000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x9000)\n",
        id="B-69",
    ),
    pytest.param(
        "i386-pae",
        "dest-entry-none",
        "mmap(0x80000000, 0x40000000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "touch(0x80000000, 0x1000)\n"
        "mremap(0x80000000, 0x40000000, 0x40000000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000000)\n",
        id="B-63",
    ),
    pytest.param("tiny", "dest-entry-none", "execve_stack(0xd8000, 0xf0000, 0x10000)\n", id="PUD"),
    pytest.param(
        "tiny",
        "dest-entry-none",
        "mmap(0x10000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "mmap(0x16000, 0x6000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "touch(0x16000, 0x6000)\n"
        "relocate(0x16000, 0x1c000, 0x4000)\n",
        id="relocate",
    ),
]


@pytest.mark.parametrize(("geometry", "rule", "text"), EXCUSED)
def test_what_is_excused_is_there(geometry: str, rule: str, text: str) -> None:
    """Once a defect is gone from the model its excuse has to go."""
    case = parse(text)
    kernel = kernel_named(FIXED_KERNEL, geometry)
    outcome = execute(case, kernel, stop=False)
    assert [found.violation.rule for found in outcome.violations] == [rule]
    assert unexcused(case, kernel) is None

"""The oracle on machines of all kinds, and what it costs."""

from fuzz.calls.directives import FAILURES
from fuzz.calls.registry import call
from fuzz.case import Faults
from fuzz.oracle.oracle import Oracle
from tests.lib.constants import PAGE
from tests.lib.drawings import (
    FIXED,
    MAYMOVE,
    PRIVATE,
    READ,
    RW,
    SHARED,
    TO,
    advise,
    drawn,
    mmap,
    mremap,
    on,
)


def test_a_source_that_stays_mapped_is_told_also_if_vmas_may_be_refused() -> None:
    oracle = Oracle()
    assert not oracle.apply(mmap(0, 8), 0)
    assert not oracle.apply(on("touch", 0, 8), 0)
    assert not oracle.apply(call("@fail", FAILURES["vma"], 4), 0)
    contents, mapped = {0: 1, 3: 4, 4: 5, 5: 6, 6: 7, 7: 8, 20: 2, 21: 3}, [(0, 8), (20, 22)]
    ranges = [(start * PAGE, end * PAGE) for start, end in mapped]
    mismatches = oracle.apply(mremap(1, 2, 2, TO, 20), 20 * PAGE, contents, lambda: ranges)
    assert [m.kind for m in mismatches] == ["mapped"]


def test_what_steers_or_watches_changes_nothing() -> None:
    oracle = Oracle()
    assert not oracle.apply(mmap(0, 4), 0)
    assert not oracle.apply(on("touch", 0, 4), 0)
    for each in (
        call("@limit", 0, 9),
        call("@fail", 0, 1),
        call("fork"),
        on("mseal", 0, 4),
        call("touch_on", 1, 0),
        on("swapout", 0, 4),
    ):
        assert not oracle.apply(each, 0, {0: 1, 1: 2, 2: 3, 3: 4}, lambda: [(0, 4 * PAGE)])
    assert [m.kind for m in oracle.apply(on("mseal", 0, 5), 0)] == ["refusal"]


def test_page_size_and_word_size() -> None:
    big = Oracle(page_bytes=65536)
    big.apply(call("mmap", 0, 65537, RW, PRIVATE | FIXED), 0)
    big.apply(call("touch", 65536, 1), 0)
    assert (big.mapped, dict(big.contents)) == ([(0, 2)], {1: 1})
    # An old length that wraps to 0 makes a second mapping on 32 bits.
    small = Oracle(word_bits=32)
    small.apply(mmap(0, 1, flags=SHARED | FIXED), 0)
    small.apply(on("touch", 0, 1), 0)
    assert small.apply(call("mremap", 0, 0xFFFFFFFF, PAGE, MAYMOVE, 0), 4 * PAGE) == []
    assert drawn(small, 5) == "1 . . . 1"


def test_cost_follows_pages_not_lengths() -> None:
    far, huge = 1 << 40, 1 << 38  # in pages: none of this ends if anything walks the lengths
    oracle = Oracle()
    for flags in (PRIVATE, SHARED):
        oracle.apply(mmap(0, huge, flags=flags | FIXED), 0)
        oracle.apply(on("touch", huge - 1, 1), 0)
        oracle.apply(on("peek", 0, huge), 0)
        oracle.apply(on("touch", huge, huge), Faults(segv=((huge, huge),)))
        assert oracle.apply(mremap(0, huge, huge, TO, far), far * PAGE) == []
        (page,) = oracle.contents
        assert page == far + huge - 1
        oracle.apply(advise(far, huge, "DONTNEED"), 0)
        oracle.apply(on("mprotect", far, huge, READ), 0)
        oracle.apply(on("munmap", 0, 2 * far), 0)
        assert oracle.mapped == []

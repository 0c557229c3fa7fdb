"""What would be read from memory, whether or not a page is mapped yet."""

import pytest

from engine.base.kernel import kernel_named
from fuzz.forms.text import parse
from fuzz.subjects.contents import outside, runs
from fuzz.subjects.model import Model

MODEL = Model(kernel_named("linux-6.18"))
PRIVATE = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
SHARED = PRIVATE.replace("MAP_PRIVATE", "MAP_SHARED")
TOUCH = "touch(0x201000, 0x2000)\n"
ZAP = "madvise(0x200000, 0x4000, MADV_DONTNEED)\n"
DUPLICATE = "mremap(0x200000, 0, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x300000)\n"
# A huge page over the end of an object of one page: beyond that only what is mapped can be read.
HUGE_OF_ONE = (
    "mmap(0, 0x1000, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED)\n"
    "touch(0, 0x1000)\n"
    "mremap(0, 0, 0x200000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x200000)\n"
    "munmap(0, 0x1000)\n"
    "madvise(0x200000, 0x200000, MADV_COLLAPSE)\n"
    "touch(0x300000, 0x1000)\n"
)


@pytest.mark.parametrize(
    ("program", "found"),
    [
        (PRIVATE + TOUCH, [[0x201, 2, 1]]),
        (PRIVATE + "peek(0x200000, 0x4000)\n", []),
        (PRIVATE + TOUCH + ZAP, []),
        (SHARED + TOUCH + ZAP, [[0x201, 2, 1]]),
        (SHARED + DUPLICATE + TOUCH, [[0x201, 2, 1], [0x301, 2, 1]]),
        (SHARED + TOUCH + DUPLICATE + "munmap(0x200000, 0x2000)\n", [[0x202, 1, 2], [0x301, 2, 1]]),
        (SHARED + TOUCH + "munmap(0x200000, 0x4000)\n", []),
        (HUGE_OF_ONE, [[0x200, 1, 1], [0x300, 1, 2]]),
        (HUGE_OF_ONE + "mlock(0x200000, 0x1000)\n", [[0x200, 1, 1]]),
        (PRIVATE + TOUCH + "madvise(0x201000, 0x1000, MADV_GUARD_INSTALL)\n", [[0x202, 1, 2]]),
        (
            PRIVATE.replace("0x4000", "0x200000")
            + "madvise(0x200000, 0x200000, MADV_HUGEPAGE)\ntouch(0x200000, 0x1000)\n",
            [[0x200, 1, 1]],
        ),
    ],
)
def test_what_the_model_has_in_memory(program: str, found: list[list[int]]) -> None:
    assert MODEL.observe(parse(program), {"contents": []})["contents"] == found


def test_contents_take_time_and_are_told_when_they_are_compared() -> None:
    assert "contents" not in MODEL.observe(parse(PRIVATE))
    assert "contents" not in MODEL.observe(parse(PRIVATE), {"contents": None})


def test_runs_count_up() -> None:
    pieces = [(0, 2, 1), (2, 1, 3), (3, 1, 0), (4, 1, 5), (5, 1, 5), (7, 1, 6)]
    assert runs(pieces) == [[0, 3, 1], [4, 1, 5], [5, 1, 5], [7, 1, 6]]


def test_what_is_outside_of_a_place() -> None:
    assert outside([[0, 4, 1], [9, 1, 7]], range(1, 3)) == [[0, 1, 1], [3, 1, 4], [9, 1, 7]]

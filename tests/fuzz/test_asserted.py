"""What a case asserts of the state between its calls."""

import pytest

from engine.base.kernel import kernel_named
from fuzz import asserted
from fuzz.case import CaseError
from fuzz.forms.assertions import FLAG_WORDS, PAGE_WORDS
from fuzz.forms.text import parse

MAPPED = "mmap(0x200000, 0x400000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"


def found(program: str, *assertions: str, kernel: str = "linux-6.18") -> list[str]:
    """What there is instead of the assertions that do not hold behind a program."""
    case = parse("\n".join((program.rstrip(), *assertions)) + "\n")
    return [broken.found for broken in asserted.broken(case, kernel_named(kernel))]


def test_a_vma_begins_and_ends_where_it_says() -> None:
    assert not found(MAPPED, "@vma 0x200000-0x600000 rw-p ac sd -lo -sl")
    there = ["0x200000-0x600000 rw-p ac sd"]
    for wrong in (
        "@vma 0x200000-0x500000 rw-p",
        "@vma 0x201000-0x600000 rw-p",
        "@vma 0x200000-0x600000 r--p",
        "@vma 0x200000-0x600000 rw-s",
        "@vma 0x200000-0x600000 rw-p lo",
        "@vma 0x200000-0x600000 rw-p -ac",
    ):
        assert found(MAPPED, wrong) == there, wrong
    assert found(MAPPED, "@vma 0x0-0x200000 rw-p") == ["nothing is mapped"]


def test_several_vmas_are_not_one() -> None:
    split = MAPPED + "mlock(0x300000, 0x1000)\n"
    (there,) = found(split, "@vma 0x200000-0x600000 rw-p")
    assert there.split("; ") == [
        "0x200000-0x300000 rw-p ac sd",
        "0x300000-0x301000 rw-p lo ac sd",
        "0x301000-0x600000 rw-p ac sd",
    ]
    assert not found(split, "@vma 0x300000-0x301000 rw-p lo")


def test_unmapped_is_all_of_it() -> None:
    assert not found(MAPPED, "@unmapped 0x0-0x200000", "@unmapped 0x600000-0x800000")
    there = ["0x200000-0x600000 rw-p ac sd"]
    assert found(MAPPED, "@unmapped 0x0-0x201000") == there
    assert found(MAPPED, "@unmapped 0x5ff000-0x800000") == there


@pytest.mark.parametrize(
    ("then", "holds", "not_so", "there"),
    [
        ("", "none soft-dirty", "0", "none soft-dirty"),
        ("peek(0x200000, 0x1000)", "0 present -writable", "none", "0 present soft-dirty"),
        ("touch(0x200000, 0x2000)", "1 writable", "2", "1 present writable soft-dirty"),
        ("touch(0x200000, 0x1000)\nsoft_dirty_clear()", "1 -soft-dirty", "writable", "1 present"),
        ("touch(0x200000, 0x1000)\nswapout(0x200000, 0x1000)", "1 swapped", "-swapped", None),
        ("madvise(0x200000, 0x1000, MADV_GUARD_INSTALL)", "guard", "-guard", None),
        ("madvise(0x200000, 0x200000, MADV_COLLAPSE)", "none", "huge", None),
        (
            "touch(0x200000, 0x200000)\nmadvise(0x200000, 0x200000, MADV_COLLAPSE)",
            "1 huge",
            "2",
            "1 present huge writable soft-dirty",
        ),
        (
            "uffd_register(0x200000, 0x1000, UFFDIO_REGISTER_MODE_WP)\n"
            "touch(0x200000, 0x1000)\nuffd_wp(0x200000, 0x1000, 1)",
            "1 uffd-wp -writable",
            "-uffd-wp",
            None,
        ),
    ],
)
def test_a_page_is_as_it_says(then: str, holds: str, not_so: str, there: str | None) -> None:
    program = f"{MAPPED}{then}"
    assert not found(program, f"@page 0x200000 {holds}")
    (instead,) = found(program, f"@page 0x200000 {not_so}")
    assert there is None or instead == there


def test_the_second_page_of_a_huge_one_has_a_number_of_its_own() -> None:
    program = f"{MAPPED}touch(0x200000, 0x200000)\nmadvise(0x200000, 0x200000, MADV_COLLAPSE)"
    assert not found(program, "@page 0x201000 2 huge")


def test_it_holds_behind_its_call_not_later() -> None:
    case = f"{MAPPED}@vma 0x200000-0x600000 rw-p\nmunmap(0x200000, 0x400000)\n"
    assert not found(case, "@unmapped 0x200000-0x600000")


@pytest.mark.parametrize("line", ["@page 0x8000000000 none", "@unmapped 0x0-0x8000001000"])
def test_outside_the_arena_there_is_nothing_to_assert(line: str) -> None:
    with pytest.raises(CaseError, match=f"{line}: reaches outside the arena of 0x8000000000 bytes"):
        found(MAPPED, line)


def test_of_one_kernel_it_holds_there_only() -> None:
    wrong = "@vma linux-6.1: 0x200000-0x600000 r--p"
    assert not found(MAPPED, wrong)
    assert found(MAPPED, wrong, kernel="linux-6.1")
    assert found(MAPPED, wrong, kernel="linux-6.1+realign")


def test_the_words_that_are_read_are_those_that_are_known() -> None:
    assert {*asserted.VM_FLAGS, "sd"} == set(FLAG_WORDS)
    assert list(asserted.PAGE_WORDS) == list(PAGE_WORDS)

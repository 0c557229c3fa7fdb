"""The optional fields of an observation, as the model has them."""

import pytest

from engine.base.kernel import kernel_named
from fuzz.execute import execute
from fuzz.forms.text import parse
from fuzz.subjects.extended import OPTIONAL, extended

ANON = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED"
ALL = "UFFD_FEATURE_EVENT_REMAP|UFFD_FEATURE_EVENT_UNMAP|UFFD_FEATURE_EVENT_REMOVE"


def shown(*calls: str) -> dict[str, object]:
    outcome = execute(parse("\n".join(calls)), kernel_named("linux-6.18"), stop=False)
    assert not any(isinstance(result, str) for result in outcome.results)
    found = extended(outcome.space)
    assert tuple(found) == OPTIONAL
    return found


def test_soft_dirty_is_what_was_written_since_it_was_cleared() -> None:
    calls = (
        f"mmap(0x0, 0x4000, {ANON})",
        "touch(0x0, 0x4000)",
        "soft_dirty_clear()",
        "touch(0x1000, 0x2000)",
        f"mmap(0x10000, 0x2000, {ANON})",
        "peek(0x10000, 0x1000)",
        "madvise(0x11000, 0x1000, MADV_GUARD_INSTALL)",
    )
    found = shown(*calls)
    assert found["sd"] == [[1, 2], [16, 2]]
    assert found["flags"] == ["ac", "sd ac"]


def test_write_protection_is_that_of_entries_and_marks() -> None:
    found = shown(
        f"mmap(0x0, 0x4000, {ANON.replace('PRIVATE', 'SHARED')})",
        "touch(0x0, 0x2000)",
        "uffd_register(0x0, 0x3000, UFFDIO_REGISTER_MODE_WP)",
        "uffd_wp(0x1000, 0x2000, 1)",
        "mlock(0x3000, 0x1000)",
    )
    assert found["wp"] == [[1, 2]]
    assert found["flags"] == ["uw sd", "lo sd"]
    assert found["locked"] == 4


def test_a_huge_page_is_a_run() -> None:
    found = shown(
        f"mmap(0x200000, 0x400000, {ANON}|MAP_HUGETLB)", "touch(0x200000, 0x1000)", "mseal(0, 0)"
    )
    assert found["sd"] == [[512, 512]]
    assert found["flags"] == ["sd ht"]


def test_events_come_in_order() -> None:
    found = shown(
        f"mmap(0x0, 0x4000, {ANON})",
        f"mmap(0x10000, 0x4000, {ANON})",
        f"uffd_register(0x0, 0x4000, UFFDIO_REGISTER_MODE_WP, {ALL})",
        f"uffd_register(0x10000, 0x4000, UFFDIO_REGISTER_MODE_WP, {ALL})",
        "madvise(0x1000, 0x1000, MADV_DONTNEED)",
        "mremap(0x0, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x10000)",
    )
    assert found["events"] == [
        ["remove", 0x1000, 0x2000],
        ["unmap", 0x10000, 0x14000],
        ["remap", 0x0, 0x10000, 0x4000],
        ["unmap", 0x0, 0x4000],
    ]


@pytest.mark.parametrize(
    ("features", "events"), [("UFFD_FEATURE_EVENT_FORK", [["fork"]]), ("0", [])]
)
def test_a_child_that_is_watched_is_told(features: str, events: list[object]) -> None:
    found = shown(
        f"mmap(0x0, 0x4000, {ANON})",
        "touch(0x0, 0x1000)",
        f"uffd_register(0x0, 0x4000, UFFDIO_REGISTER_MODE_WP, {features})",
        "fork()",
    )
    assert found["events"] == events


def test_a_copy_that_shares_its_source_is_a_move_of_nothing() -> None:
    found = shown(
        f"mmap(0x0, 0x4000, {ANON.replace('PRIVATE', 'SHARED')})",
        "uffd_register(0x0, 0x4000, UFFDIO_REGISTER_MODE_MISSING, UFFD_FEATURE_EVENT_REMAP)",
        "mremap(0x0, 0x0, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x10000)",
    )
    assert found["events"] == [["remap", 0x0, 0x10000, 0]]
    assert found["flags"] == ["um sd", "um sd"]

"""Cases that have a process of their own on this machine do there what they do in the model."""

from collections.abc import Iterator

import pytest

from fuzz.case import Case
from fuzz.forms.text import parse
from fuzz.subjects.against import Against
from fuzz.subjects.beside import beside_model
from fuzz.subjects.host import Host
from fuzz.subjects.subject import SubjectError

ANON = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED"
MAPPED = f"mmap(0x1ff000, 0x3000, {ANON})\ntouch(0x1ff000, 0x2000)\n"
MOVED = "mremap(0x1ff000, 0x3000, 0x3000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x5ff000)\n"
EVENTS = "UFFD_FEATURE_EVENT_REMAP|UFFD_FEATURE_EVENT_UNMAP|UFFD_FEATURE_EVENT_REMOVE"
REGISTERED = "uffd_register(0x1ff000, 0x3000, UFFDIO_REGISTER_MODE_{}, {})\n"
PROGRAMS = {
    "a child": f"{MAPPED}fork()\ntouch(0x200000, 0x1000)\n{MOVED}exit_child()\n",
    "a child's end": f"{MAPPED}fork()\nexit_child()\ntouch(0x1ff000, 0x2000)\n",
    "sealed": f"{MAPPED}mseal(0x200000, 0x1000)\n{MOVED}munmap(0x1ff000, 0x1000)\n",
    "missing": MAPPED + REGISTERED.format("MISSING", 0) + "peek(0x201000, 0x1000)\n",
    "protected": MAPPED
    + REGISTERED.format("WP", EVENTS)
    + "uffd_wp(0x1ff000, 0x2000, 1)\ntouch(0x200000, 0x1000)\n"
    + MOVED
    + "madvise(0x5ff000, 0x1000, MADV_DONTNEED)\nmunmap(0x600000, 0x1000)\n",
    "told of a child": MAPPED + REGISTERED.format("WP", "UFFD_FEATURE_EVENT_FORK") + "fork()\n",
    "a signal": MAPPED
    + REGISTERED.format("MISSING", "UFFD_FEATURE_SIGBUS")
    + "touch(0x200000, 0x2000)\n",
    "limited": f"@limit as 0x4000\n{MAPPED}mmap(0x300000, 0x2000, {ANON})\n{MOVED}",
}


@pytest.fixture(scope="module")
def pair() -> Iterator[Against]:
    try:
        found = beside_model()
    except SubjectError as error:
        pytest.skip(str(error))
    with found:
        yield found


def shown(pair: Against, name: str) -> tuple[Case, dict[str, object]]:
    case = parse(PROGRAMS[name])
    if refused := pair.subject.refusal(case):
        pytest.skip(refused)
    return case, pair.subject.observe(case)


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_does_what_the_model_does(pair: Against, name: str) -> None:
    case, observed = shown(pair, name)
    found = pair.judge(case, observed)
    assert found is None, found.told()


def test_optional_fields_are_told(pair: Against) -> None:
    _, observed = shown(pair, "protected")
    assert observed["events"] == [
        ["remap", 0x1FF000, 0x5FF000, 0x3000],
        ["unmap", 0x1FF000, 0x202000],
        ["remove", 0x5FF000, 0x600000],
        ["unmap", 0x600000, 0x601000],
    ]
    assert {"wp", "flags", "locked", "swapped"} <= observed.keys()


def test_nothing_is_left_for_the_next_case(pair: Against) -> None:
    assert isinstance(pair.subject, Host)
    plain = parse(MAPPED + MOVED)
    before = pair.subject.observe(plain)
    worker = pair.subject.worker
    for name in PROGRAMS:
        shown(pair, name)
    assert pair.subject.observe(plain) == before
    assert pair.subject.worker == worker

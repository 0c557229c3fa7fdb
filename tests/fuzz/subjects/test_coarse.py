"""What is compared with a program that stands for a kernel; here a model that shows less."""

import pytest

from engine.base.address import Range
from engine.base.kernel import kernel_named
from fuzz.case import Case
from fuzz.forms.text import parse
from fuzz.subjects.coarse import PLACED, CoarselyAgainst, coalesced, cut, without
from fuzz.subjects.model import Model
from fuzz.subjects.subject import Observation
from tests.lib.standin import StandIn

MODEL = Model(kernel_named("linux-6.18"))
MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
TOUCHED = f"{MAP}touch(0x201000, 0x2000)\n"
PROTECTED = f"{MAP}mprotect(0x201000, 0x1000, PROT_READ)\n"
BEHIND = MAP.replace("0x200000", "0x204000")
GROWN = f"{TOUCHED}{BEHIND}mremap(0x200000, 0x4000, 0x8000, MREMAP_MAYMOVE)\n"
PLACE = f"{MAP}mmap(0x200000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS)\n"


def beside(standin: StandIn) -> CoarselyAgainst:
    return CoarselyAgainst(MODEL, standin)


@pytest.mark.parametrize("merges", [True, False])
@pytest.mark.parametrize(
    "program",
    [TOUCHED, PROTECTED, GROWN, PLACE, PLACE + TOUCHED, MAP + BEHIND],
)
def test_what_is_its_own_affair_is_no_difference(program: str, merges: bool) -> None:
    pair = beside(StandIn(merges=merges))
    assert pair.has_vmas == merges
    assert pair.divergence(parse(program)) is None


def test_a_program_ends_with_the_first_address_that_is_chosen() -> None:
    pair = beside(StandIn())
    for program in (PLACE, GROWN):
        assert pair.runnable(parse(program + MAP)) == parse(program)
    assert pair.runnable(parse(TOUCHED + MAP)) == parse(TOUCHED + MAP)


def test_a_hint_that_is_taken_is_no_choice() -> None:
    case = parse(MAP.replace("|MAP_FIXED", "") + MAP)
    assert cut(case, MODEL.observe(case), MODEL.geometry) == case


def test_a_place_that_is_not_found_is_not_compared() -> None:
    whole = MAP.replace("0x4000", "0x7fffe00000").replace("MAP_FIXED", "MAP_FIXED|MAP_NORESERVE")
    full = f"{whole}mmap(0, 0x200000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    case = parse(full + PLACE.splitlines()[1] + "\n")
    assert MODEL.observe(case)["ret"][-1] == "-ENOMEM"
    assert beside(StandIn()).runnable(case) == parse(full)
    huge = parse(f"{MAP}mmap(0, 0x900000000000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS)\n")
    assert MODEL.observe(huge)["ret"][-1] == "-ENOMEM"
    assert beside(StandIn()).runnable(huge) == huge  # wherever one looks


class Other(StandIn):
    """One that does something else with programs of two calls."""

    def __init__(self, **fields: object) -> None:
        super().__init__()
        self.fields = fields

    def observe(self, case: Case) -> Observation:
        observed = super().observe(case)
        return observed if len(case.calls) != 2 else {**observed, **self.fields}


@pytest.mark.parametrize(
    ("program", "fields", "kind"),
    [
        (TOUCHED, {"contents": [[0x201, 2, 2]]}, "contents after touch()"),
        (TOUCHED, {"vmas": []}, "vmas after touch()"),
        (
            f"{MAP}mremap(0x200000, 0x4000, 0x8000, MREMAP_MAYMOVE)\n",
            {"ret": [0x200000, PLACED], "vmas": []},
            "ret after mremap(MREMAP_MAYMOVE): elsewhere, not in place",
        ),
        (TOUCHED, {"crash": "killed by SIGSEGV"}, "crash after touch(killed by SIGSEGV)"),
    ],
)
def test_what_is_compared(program: str, fields: dict[str, object], kind: str) -> None:
    found = beside(Other(**fields)).divergence(parse(program))
    assert found is not None
    assert str(found.kind) == kind


class Forgetful(StandIn):
    """One that shows no VMAs any more once something was unmapped."""

    def observe(self, case: Case) -> Observation:
        observed = super().observe(case)
        gone = any(call.name == "munmap" for call in case.calls)
        return {**observed, "vmas": []} if gone else observed


def test_a_difference_at_the_end_is_that_of_the_call_that_brings_it_about() -> None:
    pair = beside(Forgetful())
    case = parse(f"{TOUCHED}munmap(0x800000, 0x1000)\npeek(0x200000, 0x1000)\n")
    found = pair.divergence(case)
    assert found is not None
    assert str(found.kind) == "vmas after peek()"
    assert pair.minimized(found, 100) is None  # it comes about before
    first = pair.earliest(found)
    assert str(first.kind) == "vmas after munmap()"
    small = pair.minimized(first, 100)
    assert small is not None
    assert [call.name for call in small.case.calls] == ["mmap", "munmap"]


class Fickle(StandIn):
    """One that shows no VMAs of some programs, so many times."""

    times = 0

    def observe(self, case: Case) -> Observation:
        observed = super().observe(case)
        if len(case.calls) != 2:
            return observed
        self.times -= 1
        return observed if self.times < 0 else {**observed, "vmas": []}


@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_comes_and_goes_is_not_minimized(times: int) -> None:
    standin = Fickle()
    pair = beside(standin)
    standin.times = times
    found = pair.divergence(parse(TOUCHED))
    assert found is not None
    assert pair.minimized(found, 100) is None


def test_contents_that_are_not_known_are_not_compared() -> None:
    assert beside(Other(contents=None)).divergence(parse(TOUCHED)) is None


def test_vmas_go_on_only_with_the_same() -> None:
    rows = [[0, 1, "rw-p"], [1, 2, "rw-p"], [2, 3, "r--p"], [4, 5, "r--p"]]
    assert coalesced(rows) == [[0, 2, "rw-p"], [2, 3, "r--p"], [4, 5, "r--p"]]
    shared = [
        [0, 1, "rw-s", 0, 7],
        [1, 2, "rw-s", 0, 8],
        [2, 3, "rw-s", 0, 8],
        [3, 4, "rw-s", 1, 9],
    ]
    assert coalesced(shared) == [[0, 2, "rw-s", 0, 7], *shared[2:]]


def test_a_place_is_cut_out_of_vmas() -> None:
    rows = [[0, 9, "rw-s", 0, 7], [9, 12, "rw-s", 1, 0], [20, 21, "r--p"]]
    assert without(rows, Range(2, 10)) == [
        [0, 2, "rw-s", 0, 7],
        [10, 12, "rw-s", 1, 1],
        [20, 21, "r--p"],
    ]
    assert without(rows, Range(0, 9))[0] == [9, 12, "rw-s", 0, 0]

"""Running a case: results as the format has them, what is checked, and what is left out."""

import gc
import weakref
from pathlib import Path

import pytest

from engine.base.geometry import PMD
from engine.base.kernel import kernel_named
from engine.base.points import ENTER, LEAVE, PMD_OCCUPIED, Point
from engine.state.space import AddressSpace
from fuzz.calls.registry import MODELLED_CALLS, call
from fuzz.campaign.seeds import CORPUS
from fuzz.case import Case, CaseError, Faults
from fuzz.execute import Outcome, execute
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import load, parse, parse_call
from fuzz.showing import showing
from fuzz.subjects.difference import items
from fuzz.subjects.observe import FIELDS, observation
from tests.lib.breaks import breaks, looked
from tests.lib.listening import at

RW = "PROT_READ|PROT_WRITE"
PLAIN = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED"
WARNING = "execve_stack(0xbfb00000, 0xc0000000, 0x400000)"  # on kernels without realignment


def run(*lines: str, kernel: str = "linux-6.12", geometry: str | None = None) -> Outcome:
    case = Case(tuple(map(parse_call, lines)))
    return execute(case, kernel_named(kernel, geometry), stop=False)


# --- results -------------------------------------------------------------------------------------


def test_results_are_arena_offsets_errors_and_faults() -> None:
    outcome = run(
        f"mmap(0x200000, 0x3000, {RW}, {PLAIN})",
        f"mmap(0x203000, 0x1000, PROT_READ, {PLAIN})",
        "touch(0x1ff000, 0x6000)",
        "peek(0x200000, 0x1000)",
        "mprotect(0x200001, 0x1000, PROT_READ)",
        "mremap(0x200000, 0x3000, 0x3000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)",
        f"mmap(0x300000, 0x1000, {RW}, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED)",
        "mremap(0x300000, 0x1000, 0x3000, 0)",
        "touch(0x300000, 0x3000)",
        "munmap(0x300000, 0x3000)",
    )
    assert outcome.results == [
        0x200000,
        0x203000,
        Faults(segv=((0x1FF, 1), (0x203, 2))),
        0,
        "-EINVAL",
        0x40200000,
        0x300000,
        0x300000,
        Faults(bus=((0x301, 2),)),
        0,
    ]
    assert outcome.page_tables[:3] == [0, 0, 12288]
    assert len(outcome.page_tables) == 10
    assert not outcome.violations


@pytest.mark.parametrize("geometry", ["x86-64", "i386", "i386-pae", "arm64-64k-48", "tiny"])
def test_addresses_are_offsets_on_every_geometry(geometry: str) -> None:
    outcome = run(f"mmap(0x40000, 0x10000, {RW}, {PLAIN})", "touch(0x40000, 1)", geometry=geometry)
    assert outcome.results == [0x40000, 0]
    start = outcome.space.arena.start + 0x40000
    assert [vma.start for vma in outcome.space.vmas] == [start]


@pytest.mark.parametrize(
    "line",
    [
        f"mmap(0x8000000000, 0x1000, {RW}, {PLAIN})",
        f"mmap(0x7ffffff000, 0x2000, {RW}, {PLAIN})",
        "munmap(0x7ffffff000, 0x2000)",
        "munmap(0xffffffffffff0000, 0x1000)",
        "touch(0x7ffffff000, 0x1001)",
        "peek(0x8000000000, 1)",
        "mprotect(0x7ffffff000, 0x2000, PROT_READ)",
        "mremap(0x8000000000, 0x1000, 0x1000, 0)",
        "mremap(0x0, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x8000000000)",
        "mremap(0x0, 0x1000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x7ffffff000)",
        "mremap(0x0, 0x8000001000, 0x1000, 0)",
        "execve_stack(0x7ffffff000, 0x8000001000, 0x1000)",
        "madvise(0x0, 0x4001000, MADV_GUARD_INSTALL)",  # fills too many pages
    ],
)
def test_what_leaves_the_arena_is_not_executed(line: str) -> None:
    outcome = run(f"mmap(0x0, 0x1000, {RW}, {PLAIN})", "touch(0x0, 1)", line)
    assert outcome.results == [0, 0, "SKIP"]
    assert outcome.space.contents() == {0: 1}
    assert not outcome.violations


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("mremap(0x0, 0x1000, 0x1000, MREMAP_FIXED, 0xff0000000000)", "-EINVAL"),
        ("mremap(0x1, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x0)", "-EINVAL"),
        ("munmap(0xffffffffffffffff, 0x1000)", "-EINVAL"),
        ("munmap(0x0, 0xffffffffffff0000)", "-EINVAL"),
    ],
)
def test_what_is_refused_before_it_touches_anything_is_executed(line: str, result: str) -> None:
    assert run(f"mmap(0x0, 0x1000, {RW}, {PLAIN})", line).results == [0, result]


@pytest.mark.parametrize("line", ["touch(0x0, 0x4001000)", "peek(0x0, 0x4001000)"])
def test_a_call_that_would_fill_too_many_pages_is_not_executed(line: str) -> None:
    assert run(f"mmap(0x0, 0x40000000, {RW}, {PLAIN})", line).results[1] == "SKIP"


def test_tags_count_pages_attempted() -> None:
    outcome = run(
        f"mmap(0x1000, 0x1000, {RW}, {PLAIN})", "touch(0x0, 0x3000)", "touch(0x1000, 0x1000)"
    )
    assert outcome.space.contents() == {1: 4}


# --- violations ----------------------------------------------------------------------------------


def test_a_violation_is_told_with_its_call() -> None:
    outcome = run("munmap(0x0, 0x1000)", WARNING, kernel="linux-6.1")
    (found,) = outcome.violations
    assert found.call == 1
    assert found.violation.rule == "dest-entry-none"
    assert outcome.results == [0, 0]
    assert not run(WARNING, kernel="linux-6.12").violations


@pytest.mark.parametrize(("stop", "calls"), [(True, 1), (False, 3)])
def test_a_program_stops_at_its_first_violation_or_runs_to_its_end(stop: bool, calls: int) -> None:
    case = parse(f"{WARNING}\n{WARNING}\nmunmap(0x0, 0x1000)\n")
    outcome = execute(case, kernel_named("linux-6.1"), stop=stop)
    assert len(outcome.results) == len(outcome.page_tables) == calls
    assert [found.call for found in outcome.violations] == list(range(min(calls, 2)))


def test_without_checks_only_the_movers_own_rules_speak() -> None:
    outcome = execute(parse(WARNING), kernel_named("linux-6.1"), stop=False, check=False)
    assert [found.violation.rule for found in outcome.violations] == ["dest-entry-none"]


def test_the_state_is_checked_after_the_last_call() -> None:
    case = parse(f"mmap(0x0, 0x2000, {RW}, {PLAIN})\ntouch(0x0, 0x2000)\n")

    def corrupt(index: int, space: AddressSpace) -> None:
        if index == 0:
            space.tree.rss_anon += 1

    outcome = execute(case, kernel_named("linux-6.12"), stop=False, on_step=corrupt)
    assert [(found.call, found.violation.rule) for found in outcome.violations] == [
        (1, "rss-count")
    ]


MOVING = (
    f"mmap(0x200000, 0x2000, {RW}, {PLAIN})\ntouch(0x200000, 0x2000)\n"
    "mremap(0x200000, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)\n"
)


def test_no_directive_breaks_a_rule() -> None:
    """The name of a finding has the call that broke it."""
    case = load(CORPUS / "regressions/failure-that-nobody-asks-for.case")
    found = showing(case, kernel_named("linux-6.18")).bucket
    assert found is not None
    assert Bucket.named(found.name) == found == ("committed", "peek", "stack-growth-leak")


@breaks("oracle-contents")
def test_the_oracle_notices_what_no_rule_knows() -> None:
    """A page's content changes while it moves: entries, counts and VMAs are as they should be."""

    @at(LEAVE)
    def scribble(space: AddressSpace, point: Point) -> None:
        space.frames.tag[-1] = 99

    kernel = kernel_named("linux-6.12")
    outcome = execute(parse(MOVING), kernel, stop=False, listeners=[scribble])
    (found,) = outcome.violations
    (violation,) = looked([found.violation])
    assert (found.call, violation.rule) == (2, "oracle-contents")
    base = outcome.space.arena.start
    assert violation.where == (base + 0x40201000, base + 0x40202000)
    for options in ({"oracle": False}, {"check": False}):
        quiet = execute(parse(MOVING), kernel, stop=False, listeners=[scribble], **options)
        assert not quiet.violations
    sound = execute(parse(MOVING), kernel, stop=False)
    assert not looked(found.violation for found in sound.violations)


def test_listeners_hear_of_the_move_with_and_without_checks() -> None:
    points: list[str] = []

    @at(ENTER, LEAVE, PMD_OCCUPIED)
    def hear(_: AddressSpace, point: Point) -> None:
        points.append(point.name)

    for check in (True, False):
        points.clear()
        kernel = kernel_named("linux-6.1")
        execute(parse(WARNING), kernel, stop=False, check=check, listeners=[hear])
        assert points == [ENTER, PMD_OCCUPIED, LEAVE]


def test_steps_are_told_before_the_first_and_after_each_call() -> None:
    steps: list[tuple[int, int]] = []
    execute(
        parse(MOVING),
        kernel_named("linux-6.12"),
        stop=False,
        on_step=lambda index, space: steps.append((index, len(space.contents()))),
    )
    assert steps == [(-1, 0), (0, 0), (1, 2), (2, 2)]


def test_an_empty_case_runs() -> None:
    outcome = execute(Case(), kernel_named("linux-6.12"), stop=False)
    assert outcome.results == []
    assert observation(outcome, "empty")["pgtable_bytes"] == 0


def test_failures_and_limits_steer_the_calls_behind_them() -> None:
    outcome = run(
        "@limit as 0x4000",
        "@limit commit 0x3000",
        "@limit memlock 0x1000",
        "@limit map_count 9",
        f"mmap(0x200000, 0x3000, {RW}, {PLAIN})",
        f"mmap(0x300000, 0x2000, PROT_READ, {PLAIN})",
        "mlock(0x200000, 0x2000)",
        "mprotect(0x201000, 0x1000, PROT_READ)",
        "@fail maps 1",
        "mprotect(0x201000, 0x1000, PROT_NONE)",
        "mprotect(0x200000, 0x800, PROT_NONE)",
    )
    assert outcome.results[4:] == [0x200000, "-ENOMEM", "-ENOMEM", 0, 0, 0, 0]
    assert outcome.space.max_map_count == 9
    assert not outcome.violations


def test_what_a_failed_move_cannot_unmap_shows_what_it_would_have_shown() -> None:
    """The copy has merged with its neighbour, and there is no memory to cut it off again."""
    outcome = run(
        f"mmap(0x10000, 0x8000, {RW}, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED)",
        "touch(0x10000, 0x8000)",
        "mremap(0x10000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x3c000)",
        "@fail vma 1",
        "@fail hook 1",
        "mremap(0x14000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000)",
        "touch(0x40000, 0x4000)",
        geometry="tiny",
    )
    assert outcome.results[-2:] == ["-EPERM", 0]
    assert {found.violation.rule for found in outcome.violations} == {
        "moved-unmapped",
        "oracle-contents",  # the copy stays, and what the source shows with it
    }


def test_a_call_without_a_model_is_an_error_that_names_those_with_one() -> None:
    unknown = call("munmap", 0, 0x1000)._replace(name="clone")
    with pytest.raises(CaseError, match=r"clone is not modelled; known calls: mmap, "):
        execute(Case((unknown,)), kernel_named("linux-6.12"), stop=False)
    assert {"mmap", "munmap", "mprotect", "mremap", "touch", "peek"} <= MODELLED_CALLS


def test_two_runs_are_the_same() -> None:
    case, kernel = parse(MOVING + WARNING), kernel_named("linux-6.1")
    runs = [observation(execute(case, kernel, stop=False), "x") for _ in range(2)]
    assert runs[0] == runs[1]


# --- observations --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*.case")), ids=lambda path: path.stem)
def test_nothing_is_left_for_the_collector(path: Path) -> None:
    """What a program leaves is freed at once: a circle of references would keep it for a while."""
    case = load(path)
    kernel = kernel_named(case.kernel or "linux-6.12", case.geometry)
    gc.disable()
    try:
        left = weakref.ref(execute(case, kernel, stop=False).space)
    finally:
        gc.enable()
    assert left() is None


def test_an_observation_has_the_recorded_format() -> None:
    outcome = run(
        f"mmap(0x1000, 0x4000, {RW}, {PLAIN})",
        "touch(0x1000, 0x2000)",
        "peek(0x3000, 0x1000)",
        "mmap(0x200000, 0x2000, PROT_READ|PROT_WRITE|PROT_EXEC, "
        "MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED)",
        "touch(0x200000, 0x3000)",
        f"mmap(0x300000, 0x2000, {RW}, {PLAIN}|MAP_POPULATE)",
    )
    seen = observation(outcome, "mine")
    assert {name: seen[name] for name in ("id", "ops", *FIELDS)} == {
        "id": "mine",
        "ops": [
            f"mmap(0x1000, 0x4000, {RW}, {PLAIN})",
            "touch(0x1000, 0x2000)",
            "peek(0x3000, 0x1000)",
            "mmap(0x200000, 0x2000, PROT_READ|PROT_WRITE|PROT_EXEC, "
            "MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED)",
            "touch(0x200000, 0x3000)",
            f"mmap(0x300000, 0x2000, {RW}, {PLAIN}|MAP_POPULATE)",
        ],
        "ret": [0x1000, 0, 0, 0x200000, {"segv": [[0x202, 1]]}, 0x300000],
        "pt": [0, 12288, 12288, 12288, 16384, 16384],
        "vmas": [
            [0x1000, 0x5000, "rw-p"],
            [0x200000, 0x202000, "rwxs", 0, 0],
            [0x300000, 0x302000, "rw-p"],
        ],
        "pages": [[1, 2, "P", 1], [3, 1, "Z", 0], [0x200, 2, "S", 3], [0x300, 2, "P", 0]],
        "pgtable_bytes": 16384,
        "rss_pages": 6,
        "warn": False,
    }


def test_runs_break_where_tags_do() -> None:
    outcome = run(
        f"mmap(0x1fe000, 0x8000, {RW}, {PLAIN})",
        "touch(0x1fe000, 0x8000)",
        "touch(0x200000, 0x1000)",
        "touch(0x204000, 0x2000)",
    )
    assert observation(outcome, "")["pages"] == [
        [0x1FE, 2, "P", 1],
        [0x200, 1, "P", 9],
        [0x201, 3, "P", 4],
        [0x204, 2, "P", 10],
    ]


def test_runs_go_on_over_tables_and_vmas() -> None:
    outcome = run(
        f"mmap(0x1ff000, 0x1000, {RW}, {PLAIN})",
        f"mmap(0x200000, 0x202000, PROT_WRITE, {PLAIN})",
        "touch(0x1ff000, 0x203000)",
    )
    assert observation(outcome, "")["pages"] == [[0x1FF, 0x203, "P", 1]]


def test_page_tables_from_the_start_are_not_observed() -> None:
    """A program that runs on i386 PAE has them, too: it sees what is added, and what goes."""
    outcome = run(
        f"mmap(0x10000, 0x1000, {RW}, {PLAIN})",
        "touch(0x10000, 0x1000)",
        "munmap(0x10000, 0x1000)",
        geometry="i386-pae",
    )
    assert outcome.page_tables == [12288, 16384, 8192]
    assert observation(outcome, "")["pt"] == [0, 4096, -4096]


@pytest.mark.parametrize(
    ("kind", "other", "state"), [("SHARED", "PRIVATE", "T"), ("PRIVATE", "SHARED", "H")]
)
def test_a_huge_page_that_was_lost_in_another_vma_is_what_it_was(
    kind: str, other: str, state: str
) -> None:
    outcome = run(
        f"mmap(0x200000, 0x200000, {RW}, MAP_{kind}|MAP_ANONYMOUS|MAP_FIXED|MAP_HUGETLB)",
        "touch(0x200000, 0x1000)",
        f"mmap(0x400000, 0x200000, {RW}, MAP_{other}|MAP_ANONYMOUS|MAP_FIXED)",
    )
    table = outcome.space.tree.find(outcome.space.arena.start, PMD)
    assert table is not None
    outcome.space.tree.move_huge(table, 1, table, 2)
    assert observation(outcome, "")["pages"] == [[1024, 1, state, 1], [1025, 511, state, 0]]


@pytest.mark.parametrize(("kernel", "warned"), [("linux-6.1", True), ("linux-6.12", False)])
def test_a_warning_of_the_kernel_is_observed(kernel: str, warned: bool) -> None:
    assert observation(run(WARNING, kernel=kernel), "")["warn"] is warned


def test_differences_name_the_field_and_the_first_place() -> None:
    one = observation(run(f"mmap(0x1000, 0x2000, {RW}, {PLAIN})", "touch(0x1000, 0x2000)"), "one")
    two = observation(run(f"mmap(0x1000, 0x3000, {RW}, {PLAIN})", "touch(0x1000, 0x3000)"), "two")
    assert list(items(one, one | {"id": "another"})) == []
    assert list(items(one, two)) == [
        ("VMA 1", "[0x1000, 0x3000) rw-p", "[0x1000, 0x4000) rw-p"),
        (
            "pages",
            "[0x1000, 0x3000) private, contents 1 to 2",
            "[0x1000, 0x4000) private, contents 1 to 3",
        ),
        ("resident", "2 pages", "3 pages"),
    ]
    assert list(items(one, one | {"ret": [0x1000]})) == [("result of call 2", "0", "nothing")]
    assert list(items(one, one | {"warn": True})) == [("warnings of the kernel", "none", "yes")]

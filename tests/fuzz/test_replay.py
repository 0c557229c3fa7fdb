"""Replaying cases, and the corpus as pytest collects it."""

from dataclasses import replace
from pathlib import Path

import pytest

from engine.base.geometry import UnknownName
from engine.base.kernel import kernel_named
from fuzz.case import Case, CaseError, Expectation
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import dump, parse
from fuzz.replay import (
    DEFAULT_KERNEL,
    Verdict,
    annotated,
    describe,
    expectations,
    expecting,
    finding,
    replay,
    story,
)
from tests.lib.constants import ROOT

pytest_plugins = ["pytester"]

# Over whole PUD entries: on tiny, the stack move meets an emptied table in spite of realignment.
TINY_STACK = "execve_stack(0xd8000, 0xf0000, 0x10000)\n"
STACK = "execve_stack(0xbfb00000, 0xc0000000, 0x400000)\n"
MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)"
MOVE = "mremap(0x200000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)"
RULE = "dest-entry-none"


def verdicts(text: str, *kernels: str) -> list[Verdict]:
    return replay(parse(text), list(kernels) or None)


def test_expectations_by_kernel() -> None:
    case = parse(f"@kernel linux-6.1\n@expect {RULE}\n@expect linux-6.18 ok\n{STACK}")
    assert expectations(case) == {"linux-6.1": RULE, "linux-6.18": "ok"}
    assert [(v.kernel, v.found, v.ok) for v in replay(case)] == [
        ("linux-6.1", RULE, True),
        ("linux-6.18", "ok", True),
    ]


def test_expectation_without_any_kernel_is_of_the_default_one() -> None:
    assert expectations(parse("@expect ok\n")) == {DEFAULT_KERNEL: "ok"}


def test_case_without_expectation_runs_on_its_own_kernel() -> None:
    (verdict,) = verdicts(f"@kernel linux-6.1\n{STACK}")
    assert (verdict.kernel, verdict.expected, verdict.found) == ("linux-6.1", None, RULE)
    assert verdict.ok
    assert str(verdict) == (
        f"linux-6.1 on x86-64: {RULE} (known: B-01) (the case expects nothing of this kernel)"
    )


def test_a_wrong_expectation_is_a_failure_either_way() -> None:
    first, second = verdicts(f"@expect linux-6.1 ok\n@expect linux-6.18 {RULE}\n{STACK}")
    assert not first.ok
    assert str(first) == f"linux-6.1 on x86-64: expected ok, found {RULE} (known: B-01)"
    assert not second.ok
    assert str(second) == f"linux-6.18 on x86-64: expected {RULE}, found ok"


def test_another_rule_than_the_expected_one_is_a_failure() -> None:
    (verdict,) = verdicts(f"@expect linux-6.1 pages-kept\n{STACK}")
    assert not verdict.ok


def test_named_kernels_replace_those_of_the_case() -> None:
    shown = verdicts(f"@expect linux-6.1 {RULE}\n{STACK}", "linux-6.7", "linux-6.1")
    assert [(v.kernel, v.expected) for v in shown] == [("linux-6.7", None), ("linux-6.1", RULE)]


def test_geometry_of_the_case_is_used() -> None:
    # A shift by half a slot of i386: there, no whole table moves, and nothing is in the way.
    text = f"@kernel linux-6.1\n@geometry i386\n@expect ok\n{STACK.replace('0x400000', '0x200000')}"
    (verdict,) = verdicts(text)
    assert (verdict.geometry, verdict.found, verdict.ok) == ("i386", "ok", True)


def test_every_asserted_result_is_checked() -> None:
    text = f"@expect ok\n{MAP} = 0x200000\ntouch(0x200000, 0x5000) = 0\n{MOVE} = -EINVAL\n"
    (verdict,) = verdicts(text)
    assert not verdict.ok
    assert [str(mismatch) for mismatch in verdict.mismatches] == [
        "call 2: touch(0x200000, 0x5000) = SEGV[0x204000, 0x205000), the case says 0",
        f"call 3: {MOVE} = 0x40200000, the case says -EINVAL",
    ]
    assert str(verdict).startswith(f"{DEFAULT_KERNEL} on x86-64: ok, as expected; call 2: touch(")


def test_results_are_checked_after_a_violation_too() -> None:
    text = f"@kernel linux-6.1\n@expect {RULE}\n{STACK}munmap(0x1000, 0) = 0\n"
    (verdict,) = verdicts(text)
    assert verdict.found == RULE
    assert [mismatch.number for mismatch in verdict.mismatches] == [2]


def test_unknown_rule_is_named_with_the_known_ones() -> None:
    with pytest.raises(CaseError, match=r"unknown rule 'dest-entry-nome'; known: ok, .*dest-entry"):
        verdicts(f"@expect dest-entry-nome\n{STACK}")


def test_contradicting_expectations_are_refused() -> None:
    case = Case(expects=(Expectation(None, "ok"), Expectation(DEFAULT_KERNEL, RULE)))
    with pytest.raises(CaseError, match="is to give both ok and dest-entry-none"):
        replay(case)


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(UnknownName, match="linux-9"):
        verdicts(STACK, "linux-9")


def test_story_shows_the_table_in_the_way() -> None:
    told = story(parse(STACK), kernel_named("linux-6.1"))
    assert told.splitlines()[0] == "execve_stack(0xbfb00000, 0xc0000000, 0x400000) = 0"
    assert "when the move starts:\n" in told
    assert f"when {RULE} is broken:\n" in told
    assert "~   0xbfa00000   PTE table         0/512 |................|  emptied <==" in told
    assert told.splitlines()[-2].startswith(f"violation: {RULE} at [0xbfa00000, 0xbfc00000): ")


def test_story_without_violation_shows_every_call() -> None:
    told = story(
        parse(f"{MAP}\ntouch(0x200000, 0x1000)\n{MOVE}\nmunmap(0, 0)\n"), kernel_named("linux-6.18")
    )
    assert "violation" not in told
    assert "+ 0x200000-0x204000             16 KiB  rw-p         0" in told
    assert "- 0x200000-0x204000             16 KiB  rw-p         1" in told
    assert "+ 0x40200000-0x40204000         16 KiB  rw-p         1" in told
    assert told.endswith("munmap(0x0, 0x0) = -EINVAL\n  (no change)")


def test_story_in_colour_only_adds_colour() -> None:
    case, kernel = parse(STACK), kernel_named("linux-6.1")
    plain, coloured = story(case, kernel), story(case, kernel, colour=True)
    assert "\033" not in plain
    assert "\033[32m+ " in coloured


def test_a_finding_is_rule_call_and_known_defect() -> None:
    found = finding(parse(STACK), kernel_named("linux-6.1"))
    assert found == Bucket(RULE, "execve_stack", "B-01")
    assert finding(parse(STACK), kernel_named("linux-6.18")) is None


UNKNOWN_BEHIND_KNOWN = f"""\
mmap(0x8000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
mremap(0x8000, 0xffffffffffff8000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x9000)
{TINY_STACK}"""


def test_replay_and_story_look_behind_known_defects() -> None:
    case, kernel = parse(UNKNOWN_BEHIND_KNOWN), kernel_named("linux-6.18", "tiny")
    assert finding(case, kernel) == Bucket(RULE, "execve_stack")
    (verdict,) = replay(replace(case, geometry="tiny"))
    assert (verdict.found, verdict.defect) == (RULE, "")
    told = story(case, kernel)
    assert told.count("\n\n") == 2  # all three calls
    assert f"when {RULE} is broken:\n" in told
    assert "known: " not in told


def test_a_story_and_a_description_name_the_known_defect() -> None:
    kernel = kernel_named("linux-6.1")
    assert story(parse(STACK), kernel).splitlines()[-1].startswith("known: B-01, ")
    assert describe(parse(STACK), kernel).startswith(f"I-01 {RULE}: a destination entry")
    with pytest.raises(ValueError, match=r"no rule is broken on linux-6\.18"):
        describe(parse(STACK), kernel_named("linux-6.18"))


def test_expecting_states_what_each_kernel_shows() -> None:
    names = ["linux-6.1", "linux-6.18", "linux-6.1"]  # a name given twice counts once
    case = expecting(parse(f"@expect linux-5.0 ok\n{STACK}"), names)
    assert case.expects == (Expectation("linux-6.1", RULE), Expectation("linux-6.18", "ok"))
    assert all(verdict.ok for verdict in replay(case))


def test_annotated_asserts_only_results_in_which_the_kernels_agree() -> None:
    # FIXED without MAYMOVE: 6.17 looks at the source before it unmaps the destination, but the
    # result is the same; a range over two VMAs moves since 6.17 only.
    other = MAP.replace("0x200000", "0x205000").replace("PROT_READ|", "")
    both = "mremap(0x200000, 0x9000, 0x9000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)"
    case = annotated(parse(f"{MAP}\n{other}\n{both}\n"), ["linux-6.1", "linux-6.18"])
    assert dump(case) == f"{MAP} = 0x200000\n{other} = 0x205000\n{both}\n"


# The corpus under pytest: what a developer sees who runs `pytest corpus`.


@pytest.fixture
def corpus(pytester: pytest.Pytester) -> Path:
    pytester.makeini(f"[pytest]\npythonpath = {ROOT}\n")
    pytester.makeconftest((ROOT / "corpus/conftest.py").read_text())
    return pytester.path


@pytest.mark.slow
def test_one_item_for_each_kernel(pytester: pytest.Pytester, corpus: Path) -> None:
    corpus.joinpath("x.case").write_text(
        f"@kernel linux-6.1\n@expect {RULE}\n@expect linux-6.18 ok\n{STACK}"
    )
    corpus.joinpath("y.case").write_text(STACK)
    collected = pytester.runpytest_inprocess("--collect-only", "-q")
    collected.stdout.fnmatch_lines(
        ["x.case::linux-6.1", "x.case::linux-6.18", "y.case::runs"], consecutive=True
    )
    pytester.runpytest_inprocess().assert_outcomes(passed=3)
    pytester.runpytest_inprocess("x.case").assert_outcomes(passed=2)
    pytester.runpytest_inprocess("x.case::linux-6.1").assert_outcomes(passed=1)


def test_failure_tells_the_story_and_the_command(pytester: pytest.Pytester, corpus: Path) -> None:
    corpus.joinpath("x.case").write_text(f"@expect linux-6.1 ok\n{STACK}")
    result = pytester.runpytest_inprocess("x.case")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            f"linux-6.1 on x86-64: expected ok, found {RULE} (known: B-01)",
            "execve_stack(0xbfb00000, 0xc0000000, 0x400000) = 0",
            "*emptied <==",
            f"violation: {RULE} at *",
            "Reproduce with: pmdfuzz replay x.case --kernel linux-6.1",
        ]
    )
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*conftest.py*")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mremmap(0, 0, 0, 0)\n", "*x.case:1:1: unknown call 'mremmap'*"),
        ("@expect no-such-rule\n", "*unknown rule 'no-such-rule'; known: ok, *"),
    ],
)
def test_malformed_case_is_one_failure_in_its_own_words(
    pytester: pytest.Pytester, corpus: Path, text: str, message: str
) -> None:
    corpus.joinpath("x.case").write_text(text)
    result = pytester.runpytest_inprocess("x.case")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([message])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_call_outside_the_arena_is_an_error_unless_the_case_says_so() -> None:
    call = "mmap(0x8000000000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)"
    with pytest.raises(CaseError, match="outside the arena"):
        replay(parse(call + "\n"), ["linux-6.18"])
    assert replay(parse(call + " = SKIP\n"), ["linux-6.18"])[0].ok

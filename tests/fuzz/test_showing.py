"""What a case shows on a kernel, and whether it is what the case expects."""

from typing import Any

import pytest

from engine.base.geometry import UnknownName
from engine.base.kernel import Kernel, kernel_named
from fuzz.case import Case, CaseError, Expectation
from fuzz.defects.catalogue import EXHIBITS
from fuzz.execute import Outcome, execute
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import dump, load, parse
from fuzz.showing import (
    DEFAULT_KERNEL,
    Showing,
    annotated,
    expectations,
    expecting,
    expecting_at_edges,
    replay,
    showing,
)
from tests.lib.constants import ROOT

STACK = "execve_stack(0xbfb00000, 0xc0000000, 0x400000)\n"
MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)"
MOVE = "mremap(0x200000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)"
RULE = "dest-entry-none"


def replayed(text: str, *kernels: str) -> list[Showing]:
    return replay(parse(text), list(kernels) or None)


def test_expectations_by_kernel() -> None:
    case = parse(f"@kernel linux-6.1\n@expect {RULE}\n@expect linux-6.18 ok\n{STACK}")
    assert expectations(case) == {"linux-6.1": RULE, "linux-6.18": "ok"}
    assert [(one.kernel.name, one.rule, one.as_expected) for one in replay(case)] == [
        ("linux-6.1", RULE, True),
        ("linux-6.18", "ok", True),
    ]


def test_expectation_without_any_kernel_is_of_the_default_one() -> None:
    assert expectations(parse("@expect ok\n")) == {DEFAULT_KERNEL: "ok"}


def test_case_without_expectation_runs_on_its_own_kernel() -> None:
    (shown,) = replayed(f"@kernel linux-6.1\n{STACK}")
    assert (shown.kernel.name, shown.expected, shown.rule) == ("linux-6.1", None, RULE)
    assert shown.as_expected
    assert str(shown) == (
        f"linux-6.1 on x86-64: {RULE} (known: B-01) (the case expects nothing of this kernel)"
    )


def test_a_wrong_expectation_is_a_failure_either_way() -> None:
    first, second = replayed(f"@expect linux-6.1 ok\n@expect linux-6.18 {RULE}\n{STACK}")
    assert not first.as_expected
    assert str(first) == f"linux-6.1 on x86-64: expected ok, found {RULE} (known: B-01)"
    assert not second.as_expected
    assert str(second) == f"linux-6.18 on x86-64: expected {RULE}, found ok"


def test_another_rule_than_the_expected_one_is_a_failure() -> None:
    (shown,) = replayed(f"@expect linux-6.1 pages-kept\n{STACK}")
    assert not shown.as_expected


def test_named_kernels_replace_those_of_the_case() -> None:
    shown = replayed(f"@expect linux-6.1 {RULE}\n{STACK}", "linux-6.7", "linux-6.1")
    assert [(one.kernel.name, one.expected) for one in shown] == [
        ("linux-6.7", None),
        ("linux-6.1", RULE),
    ]


OWN = "linux-6.18-realign-realign_stack"


def test_a_kernel_of_ones_own_is_to_do_what_the_case_says_of_its_base() -> None:
    (shown,) = replayed(f"@expect linux-6.18 ok\n{STACK}", OWN)
    assert (shown.expected, shown.rule, shown.as_expected) == ("ok", RULE, False)
    (shown,) = replayed(f"@expect linux-6.18 ok\n@expect {OWN} {RULE}\n{STACK}", OWN)
    assert shown.as_expected


def test_of_what_the_case_does_not_say_the_base_is_asked() -> None:
    text = f"@expect linux-6.1 {RULE}\n{STACK}munmap(0x1000, 0) = 0\n"
    (shown,) = replayed(text, OWN)
    assert (shown.expected, shown.rule, shown.mismatches) == ("ok", RULE, ())
    (shown,) = replayed(STACK, OWN)
    assert (shown.expected, shown.rule) == ("ok", RULE)
    (shown,) = replayed(text, "linux-6.18+uncharge_on_rollback")
    assert shown.as_expected and shown.expected == "ok"


def test_geometry_of_the_case_is_used() -> None:
    # A shift by half a slot of i386: there, no whole table moves, and nothing is in the way.
    text = f"@kernel linux-6.1\n@geometry i386\n@expect ok\n{STACK.replace('0x400000', '0x200000')}"
    (shown,) = replayed(text)
    assert (shown.kernel.geometry.name, shown.rule, shown.as_expected) == ("i386", "ok", True)


def test_every_asserted_result_is_checked() -> None:
    text = f"@expect ok\n{MAP} = 0x200000\ntouch(0x200000, 0x5000) = 0\n{MOVE} = -EINVAL\n"
    (shown,) = replayed(text)
    assert not shown.as_expected
    assert [str(mismatch) for mismatch in shown.mismatches] == [
        "call 2: touch(0x200000, 0x5000) = SEGV[0x204000, 0x205000), expected 0",
        f"call 3: {MOVE} = 0x40200000, expected -EINVAL",
    ]
    assert str(shown).startswith(f"{DEFAULT_KERNEL} on x86-64: call 2: touch(")


def test_results_are_checked_after_a_violation_too() -> None:
    text = f"@kernel linux-6.1\n@expect {RULE}\n{STACK}munmap(0x1000, 0) = 0\n"
    (shown,) = replayed(text)
    assert shown.rule == RULE
    assert [mismatch.number for mismatch in shown.mismatches] == [2]


def test_unknown_rule_is_named_with_the_known_ones() -> None:
    with pytest.raises(CaseError, match=r"unknown rule 'dest-entry-nome'; known: ok, .*dest-entry"):
        replayed(f"@expect dest-entry-nome\n{STACK}")


def test_contradicting_expectations_are_refused() -> None:
    case = Case(expects=(Expectation(None, "ok"), Expectation(DEFAULT_KERNEL, RULE)))
    with pytest.raises(CaseError, match="is to give both ok and dest-entry-none"):
        replay(case)


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(UnknownName, match="linux-9"):
        replayed(STACK, "linux-9")


def test_a_finding_is_rule_call_and_known_defect() -> None:
    found = showing(parse(STACK), kernel_named("linux-6.1")).bucket
    assert found == Bucket(RULE, "execve_stack", "B-01")
    assert showing(parse(STACK), kernel_named("linux-6.18")).bucket is None


def test_the_finding_is_looked_for_behind_known_defects() -> None:
    known = load(ROOT / "corpus" / "regressions" / "wrapping-overlap.case")
    unknown = load(ROOT / "corpus" / "museum" / "b-11-negative-result.case")
    case = known.with_calls((*known.calls, *unknown.calls))
    shown = showing(case, kernel_named("linux-6.18-negative_result_is_zero"))
    assert shown.bucket == Bucket("entries-at-new", "mremap")
    assert [one.bucket for one in shown.findings[1:]] == [
        Bucket("error-traceless", "mremap", "B-69")
    ]
    assert shown.shows(Bucket("error-traceless", "mremap", "B-69"))
    assert not shown.shows(Bucket("error-traceless", "mremap"))


def test_what_ran_a_moment_ago_is_not_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []

    def counted(case: Case, kernel: Kernel, **how: Any) -> Outcome:
        runs.append(kernel.name)
        return execute(case, kernel, **how)

    monkeypatch.setattr("fuzz.bounded.execute", counted)
    case = parse(f"touch(0x123000, 0x1000)\n{STACK}")
    names = ["linux-6.1", "linux-6.18"]
    for shown in replay(annotated(expecting(case, names), names)):
        assert shown.as_expected
    ran = list(runs)
    assert [name for name in ran if name in names] == names
    assert len(ran) == len(set(ran)) == 4  # with all of B-01 repaired, and with everything
    assert replay(expecting(case, ["linux-6.1"]))[0].violations[0].call == 1
    assert runs == ran
    assert showing(case, kernel_named("linux-6.1"), "call").rule == RULE
    assert len(runs) > len(ran)


def test_a_changed_engine_is_another_engine() -> None:
    """What it showed before does not count while it has a bug, nor the other way round."""
    exhibit = next(one for one in EXHIBITS if one.change)
    case = load(ROOT / "corpus" / "museum" / exhibit.file)
    without = showing(case, exhibit.kernel).violations
    with exhibit.installed():
        broken = {one.violation.rule for one in showing(case, exhibit.kernel).violations}
        assert exhibit.rule in broken
    assert showing(case, exhibit.kernel).violations == without == ()


def test_expecting_states_what_each_kernel_shows() -> None:
    names = ["linux-6.1", "linux-6.18", "linux-6.1"]  # a name given twice counts once
    case = expecting(parse(f"@expect linux-5.0 ok\n{STACK}"), names)
    assert case.expects == (Expectation("linux-6.1", RULE), Expectation("linux-6.18", "ok"))
    assert all(shown.as_expected for shown in replay(case))


def test_annotated_asserts_only_results_in_which_the_kernels_agree() -> None:
    # FIXED without MAYMOVE: 6.17 looks at the source before it unmaps the destination, but the
    # result is the same; a range over two VMAs moves since 6.17 only.
    other = MAP.replace("0x200000", "0x205000").replace("PROT_READ|", "")
    both = "mremap(0x200000, 0x9000, 0x9000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40200000)"
    case = annotated(parse(f"{MAP}\n{other}\n{both}\n"), ["linux-6.1", "linux-6.18"])
    assert dump(case) == f"{MAP} = 0x200000\n{other} = 0x205000\n{both}\n"


def test_a_call_outside_the_arena_is_an_error_unless_the_case_says_so() -> None:
    call = "mmap(0x8000000000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)"
    with pytest.raises(CaseError, match="outside the arena"):
        replay(parse(call + "\n"), ["linux-6.18"])
    assert replay(parse(call + " = SKIP\n"), ["linux-6.18"])[0].as_expected


def test_of_kernels_that_show_the_same_the_first_and_the_last_are_expected() -> None:
    case = load(ROOT / "corpus" / "regressions" / "thread-joel-pae-report.case")
    names = ["linux-5.16", "linux-6.1", "linux-6.6", "linux-6.7", "linux-6.18", "linux-7.3"]
    expects = expecting_at_edges(case, "linux-6.1", names).expects
    assert [(one.kernel, one.outcome) for one in expects] == [
        ("linux-6.1", "dest-entry-none"),
        ("linux-5.16", "dest-entry-none"),
        ("linux-6.6", "dest-entry-none"),
        ("linux-6.7", "ok"),
        ("linux-7.3", "ok"),
    ]

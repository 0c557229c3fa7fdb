"""The corpus under pytest: what a developer sees who runs `pytest corpus`."""

from pathlib import Path

import pytest

from tests.lib.constants import ROOT

pytest_plugins = ["pytester"]

STACK = "execve_stack(0xbfb00000, 0xc0000000, 0x400000)\n"
RULE = "dest-entry-none"


@pytest.fixture
def corpus(pytester: pytest.Pytester) -> Path:
    pytester.makeini(f"[pytest]\npythonpath = {ROOT}\n")
    pytester.makeconftest((ROOT / "corpus/conftest.py").read_text())
    return pytester.path


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


def test_a_case_that_is_to_be_like_another_kernel(pytester: pytest.Pytester, corpus: Path) -> None:
    own = "linux-6.18-realign-realign_stack"
    text = f"@kernel {own}\n@like linux-6.18\n@expect linux-6.18 ok\n"
    corpus.joinpath("x.case").write_text(text + STACK)
    result = pytester.runpytest_inprocess("x.case")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        [
            f"{own} on x86-64: differs from linux-6.18 in the rule {RULE}, call 1: execve_stack(*",
            "~ linux-6.18 on x86-64: 1 VMA,*",
            f"~ {own} on x86-64: 1 VMA,*",
        ]
    )
    corpus.joinpath("x.case").write_text(text + "munmap(0x1000, 0)\n")
    pytester.runpytest_inprocess(f"x.case::{own}-like-linux-6.18").assert_outcomes(passed=1)


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

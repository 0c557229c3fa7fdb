"""`replay`, `show` and `minimize`, with cases that are right and wrong."""

import io
import os
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from engine.base.kernel import KNOWN_NAMES
from fuzz.case import MAX_CALLS
from fuzz.cli import cases
from fuzz.cli.main import main
from fuzz.forms.text import parse
from fuzz.lib.exits import BAD_INPUT, FINE, SURPRISES
from tests.lib.command import MAP, RULE, STACK, Output, Write, refused

# replay


def test_replay_as_expected(write: Write, capsys: Output) -> None:
    path = write(f"@kernel linux-6.1\n@expect {RULE}\n@expect linux-6.18 ok\n{STACK}")
    assert main(["replay", path]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"ok   x.case: linux-6.1 on x86-64: {RULE} (known: B-01), as expected",
        "ok   x.case: linux-6.18 on x86-64: ok, as expected",
        "2 replays, 0 not as expected",
    ]


def test_kernels_of_which_the_same_is_to_be_said_share_a_line(write: Write, capsys: Output) -> None:
    path = write(STACK)
    assert main(["replay", path, "--kernel", "all"]) == 1
    *_, old, look, new, last = capsys.readouterr().out.splitlines()
    unknown = "(the case expects nothing of this kernel)"
    assert old.endswith(f", linux-5.13 to 6.6 on x86-64: {RULE} (known: B-01) {unknown}")
    assert look == "     Look with: pmdfuzz show x.case --kernel linux-5.4"
    assert new == f"ok   x.case: linux-6.7 to 7.3 on x86-64: ok {unknown}"
    assert last == "57 replays, 23 not as expected"
    assert main(["replay", path, "--kernel", "all", "--like", "linux-7.3"]) == 1
    *_, old, look, new, last = capsys.readouterr().out.splitlines()
    assert (
        f": linux-5.4, linux-5.13 to 6.6 on x86-64: differs from linux-7.3 in the rule {RULE}"
        in old
    )
    assert look.endswith(" --kernel linux-5.4 --like linux-7.3")
    assert new == "ok   x.case: linux-6.7 to 7.2 on x86-64: does what linux-7.3 does"
    assert last == "56 replays, 23 not as expected"


def test_replay_not_as_expected_says_how_to_look(write: Write, capsys: Output) -> None:
    assert main(["replay", write(f"@kernel linux-6.1\n@expect ok\n{STACK}")]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"FAIL x.case: linux-6.1 on x86-64: expected ok, found {RULE} (known: B-01)",
        "     Look with: pmdfuzz show x.case --kernel linux-6.1",
    ]


def test_replay_of_a_finding_nobody_expects(write: Write, capsys: Output) -> None:
    assert main(["replay", write(STACK), "--kernel", "linux-6.1", "--kernel", "linux-6.18"]) == 1
    out = capsys.readouterr().out
    assert (
        f"FAIL x.case: linux-6.1 on x86-64: {RULE} (known: B-01) (the case expects nothing" in out
    )
    assert "ok   x.case: linux-6.18 on x86-64: ok (the case expects nothing" in out


def test_replay_on_another_geometry(write: Write, capsys: Output) -> None:
    assert main(["replay", write(STACK), "--kernel", "linux-6.1", "--geometry", "i386"]) == 1
    out = capsys.readouterr().out
    assert f"linux-6.1 on i386: {RULE}" in out
    assert "pmdfuzz show x.case --kernel linux-6.1 --geometry i386" in out


def test_replay_of_a_folder(write: Write, capsys: Output, tmp_path: Path) -> None:
    write(f"@expect ok\n{MAP}")
    (tmp_path / "more" / "empty").mkdir(parents=True)
    (tmp_path / "more" / "y.case").write_text(f"@expect linux-6.1 ok\n{STACK}")
    assert main(["replay", "."]) == 1
    out = capsys.readouterr().out
    assert "ok   x.case: " in out and "FAIL more/y.case: " in out
    assert main(["replay", "more/empty"]) == 2
    assert refused(capsys) == "more/empty: no case in this folder\n"


OWN = "linux-6.18-realign-realign_stack"
LIKE = f"@kernel {OWN}\n@like linux-6.18\n{MAP}{STACK}"


def test_replay_of_a_case_that_is_to_be_like_another_kernel(write: Write, capsys: Output) -> None:
    differs = (
        f"x.case: {OWN} on x86-64: differs from linux-6.18 in the rule {RULE}, call 2: {STACK}"
    )
    assert main(["replay", write(LIKE)]) == 1
    out = capsys.readouterr().out
    assert f"FAIL {differs}" in out
    assert f"pmdfuzz show x.case --kernel {OWN} --like linux-6.18\n" in out
    assert main(["replay", write(LIKE.replace("@kernel", "@expect linux-6.1 ok #"))]) == 2
    assert "linux-6.18 has every switch as linux-6.18: name another" in capsys.readouterr().err
    assert main(["replay", write(f"{MAP}{STACK}"), "--kernel", OWN, "--like", "linux-6.18"]) == 1
    assert capsys.readouterr().out.startswith(f"FAIL {differs}")
    assert main(["replay", write(MAP), "--kernel", OWN, "--like", "linux-6.18"]) == 0
    assert capsys.readouterr().out == f"ok   x.case: {OWN} on x86-64: does what linux-6.18 does\n"


def test_show_of_a_case_that_is_to_be_like_another_kernel(write: Write, capsys: Output) -> None:
    assert main(["show", write(LIKE)]) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"x.case: {OWN} on x86-64 beside linux-6.18\n")
    assert out.count(STACK.strip()) == 3  # once for each kernel
    assert f"call 2 breaks {RULE} on {OWN} only: " in out
    assert main(["show", write(MAP), "--kernel", OWN, "--like", "linux-6.18"]) == 0
    assert "does what linux-6.18 does" in capsys.readouterr().out
    assert main(["show", write(LIKE), "--kernel", "linux-6.18"]) == 0
    assert "linux-6.18 on x86-64: ok" in capsys.readouterr().out


def test_minimize_keeps_the_kind_of_difference(write: Write, capsys: Output) -> None:
    assert main(["minimize", write(LIKE)]) == 0
    assert capsys.readouterr().out == (
        f"@kernel {OWN}\n@like linux-6.18\n@expect linux-6.18 ok\n"
        "execve_stack(0x300000, 0x600000, 0x200000) = 0\n"
    )
    assert main(["minimize", write(MAP), "--kernel", OWN, "--like", "linux-6.18"]) == 2
    assert refused(capsys) == f"x.case: nothing to minimize: {OWN} does what linux-6.18 does\n"


def test_replay_goes_on_after_a_file_that_is_no_case(write: Write, capsys: Output) -> None:
    assert main(["replay", "missing.case", write(f"@expect ok\n{MAP}")]) == 2
    out, err = capsys.readouterr()
    assert "ok   x.case: linux-6.18" in out
    assert err == "pmdfuzz: missing.case: cannot be read: No such file or directory\n"


# Cases that are wrong


@pytest.mark.parametrize("command", ["replay", "show", "minimize"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mremmap(0, 0, 0, 0)\n", "x.case:1:1: unknown call 'mremmap'; did you mean mremap?"),
        ("munmap(0, 0\n", "x.case:1:12: missing ')'"),
        ("# fine\nmunmap(0,, 0)\n", "x.case:2:10: misplaced ','"),
        ("munmap(0)\n", "x.case:1:9: too few operands: munmap(addr, len)"),
        ("munmap(0, 0, 0)\n", "x.case:1:14: too many operands: munmap(addr, len)"),
        ("mremap(0, 0, 0, MREMAP_FIXD)\n", "x.case:1:17: flags: unknown remap flags 'MREMAP_FIXD'"),
        ("munmap(0, 0) = nothing\n", "x.case:1:16: 'nothing' is not a result"),
        ("@kernel linux-9.9\n", "x.case:1:9: unknown kernel 'linux-9.9'; known: linux-5.0 to "),
        ("@geometry vax\n", "x.case:1:11: unknown geometry 'vax'; known: x86-64, "),
        ("@expect no-such-rule\n", "x.case: @expect: unknown rule 'no-such-rule'; known: ok, "),
        ("munmap(0, 0)\n" * (MAX_CALLS + 1), f"x.case:{MAX_CALLS + 1}:1: more than 256 calls"),
        ("# long\n" * 1_500_000, "x.case: longer than 65536 bytes"),
    ],
    ids=lambda value: value[:20].strip() if isinstance(value, str) else None,
)
def test_malformed_cases(
    command: str, text: str, message: str, write: Write, capsys: Output
) -> None:
    assert main([command, write(text)]) == 2
    assert refused(capsys).startswith(message)


@pytest.mark.parametrize("command", ["replay", "show", "minimize"])
def test_files_that_cannot_be_read(command: str, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "binary.case").write_bytes(b"\xff\xfe\x00")
    for name, why in [
        ("missing.case", "cannot be read: No such file or directory"),
        (".", "not UTF-8" if command == "replay" else "cannot be read: Is a directory"),
        ("binary.case/x", "cannot be read: Not a directory"),
        ("binary.case", "not UTF-8"),
    ]:
        assert main([command, name]) == 2
        assert why in refused(capsys)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_without_permission(write: Write, capsys: Output) -> None:
    path = write(STACK)
    os.chmod(path, 0)
    assert main(["replay", path]) == 2
    assert refused(capsys) == "x.case: cannot be read: Permission denied\n"


@pytest.mark.parametrize("command", ["replay", "show", "minimize"])
def test_unknown_names_list_the_known_ones(command: str, write: Write, capsys: Output) -> None:
    path = write(STACK)
    assert main([command, path, "--kernel", "linux-9.9"]) == 2
    assert refused(capsys) == f"unknown kernel 'linux-9.9'; known: {', '.join(KNOWN_NAMES)}\n"
    assert main([command, path, "--geometry", "vax"]) == 2
    assert refused(capsys).startswith("unknown geometry 'vax'; known: x86-64, ")


# show


def test_show_draws_the_violation(write: Write, capsys: Output) -> None:
    path = write(f"# the thread's bug\n@kernel linux-6.1\n@expect {RULE}\n{STACK}")
    assert main(["show", path]) == 0
    out = capsys.readouterr().out
    assert out.startswith("# the thread's bug\nx.case: linux-6.1 on x86-64\n\nexecve_stack(")
    assert "emptied <==" in out
    assert out.splitlines()[-2:] == [
        f"linux-6.1 on x86-64: {RULE} (known: B-01), as expected",
        "Reproduce with: pmdfuzz replay x.case --kernel linux-6.1",
    ]
    assert "\033" not in out


def test_show_on_a_kernel_without_the_bug(write: Write, capsys: Output) -> None:
    assert main(["show", write(STACK), "--kernel", "linux-6.18", "--geometry", "i386-pae"]) == 0
    out = capsys.readouterr().out
    assert "violation" not in out
    assert out.endswith("replay x.case --kernel linux-6.18 --geometry i386-pae\n")


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_on_a_terminal_only_and_if_wanted(
    no_color: str,
    coloured: bool,
    write: Write,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    main(["show", write(STACK), "--kernel", "linux-6.1"])
    assert ("\033[" in capsys.readouterr().out) is coloured


# minimize


def test_minimize_prints_and_leaves_the_file_alone(write: Write, capsys: Output) -> None:
    text = f"# why\n@kernel linux-6.1\n@expect {RULE}\n@expect linux-6.18 ok\n{MAP}{STACK}"
    path = write(text)
    assert main(["minimize", path]) == 0
    small = parse(capsys.readouterr().out)
    assert [call.name for call in small.calls] == ["execve_stack"]
    assert small.comments == ("why",)
    assert small.expects == (("linux-6.1", RULE), ("linux-6.18", "ok"))
    assert Path(path).read_text() == text


def test_minimize_writes_where_it_is_told_even_over_the_input(write: Write, capsys: Output) -> None:
    path = write(f"{MAP}{STACK}")
    assert main(["minimize", path, "--kernel", "linux-6.1", "-o", path]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "x.case: 1 of 2 calls left",
        "Reproduce with: pmdfuzz replay x.case",
    ]
    assert main(["replay", path]) == 0


def test_minimize_of_a_case_without_finding(write: Write, capsys: Output) -> None:
    assert main(["minimize", write(STACK)]) == 2
    assert refused(capsys) == "x.case: nothing to minimize: no rule is broken on linux-6.18\n"


def test_minimize_into_a_missing_directory(write: Write, capsys: Output) -> None:
    path = write(f"@kernel linux-6.1\n{STACK}")
    assert main(["minimize", path, "--budget", "10", "-o", "no/where.case"]) == 2
    assert refused(capsys) == "no/where.case: cannot write: No such file or directory\n"


def test_interrupted_minimize_keeps_the_best_so_far(
    write: Write, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cases.minimize

    def interrupted(case, same, geometry, *, budget, progress):  # type: ignore[no-untyped-def]
        def stop(best, runs):  # type: ignore[no-untyped-def]
            progress(best, runs)
            raise KeyboardInterrupt

        return real(case, same, geometry, budget=budget, progress=stop)

    monkeypatch.setattr(cases, "minimize", interrupted)
    assert main(["minimize", write(f"{MAP}{STACK}"), "--kernel", "linux-6.1"]) == 130
    out, err = capsys.readouterr()
    assert [call.name for call in parse(out).calls] == ["execve_stack"]
    assert "interrupted" in err


@pytest.mark.parametrize("command", ["replay", "show", "minimize"])
def test_a_case_may_come_from_standard_input(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = b"@kernel linux-6.1\nexecve_stack(0xbfb00000, 0xc0000000, 0x400000)\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert main([command, "-"]) == (FINE if command == "minimize" else SURPRISES)
    shown = capsys.readouterr().out
    assert "dest-entry-none" in shown
    assert " -\n" not in shown  # no command is printed that would wait for more of it


def test_standard_input_that_is_no_case_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"no case\n")))
    assert main(["replay", "-"]) == BAD_INPUT
    assert "standard input:1:1: unknown call 'no'" in capsys.readouterr().err


def test_replay_goes_on_behind_a_file_that_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.case"
    there.write_text("munmap(0x0, 0x1000) = 0\n")
    assert main(["replay", str(tmp_path / "gone.case"), str(there)]) == BAD_INPUT
    said = capsys.readouterr()
    assert "gone.case: cannot be read" in said.err
    assert f"ok   {there}" in said.out


# show --svg


def test_show_writes_a_picture(write: Write, capsys: Output, tmp_path: Path) -> None:
    path = write(f"@kernel linux-6.1\n@expect {RULE}\n{STACK}")
    assert main(["show", path, "--svg", "x.svg"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "x.svg: written",
        f"linux-6.1 on x86-64: {RULE} (known: B-01), as expected",
    ]
    root = ElementTree.parse(tmp_path / "x.svg").getroot()
    assert any(text.text and "x.case" in text.text for text in root.iter())
    assert main(["show", path, "--svg", "x.svg", "--kernel", "linux-6.18"]) == 0


def test_show_refuses_a_picture_of_two_kernels_and_one_that_has_no_place(
    write: Write, capsys: Output
) -> None:
    path = write(f"@kernel {OWN}\n{STACK}")
    assert main(["show", path, "--svg", "x.svg", "--like", "linux-6.18"]) == BAD_INPUT
    assert "leave --like out" in refused(capsys)
    assert main(["show", path, "--svg", "nowhere/x.svg"]) == BAD_INPUT
    assert "nowhere/x.svg: cannot write" in refused(capsys)

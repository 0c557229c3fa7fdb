"""Every command through `main`, and every way to use one wrongly."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from engine.base.kernel import KERNELS, KNOWN_NAMES, SWITCHES
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.campaign.session import RunOptions
from fuzz.case import MAX_CALLS
from fuzz.cli import cases
from fuzz.cli.main import main
from fuzz.execute import RulesAfter
from fuzz.findings.bucket import Bucket
from fuzz.findings.store import CaseStore, Ledger
from fuzz.forms.text import load, parse
from fuzz.rules.index import RULES
from tests.lib.constants import ROOT

STACK = "execve_stack(0xbfb00000, 0xc0000000, 0x400000)\n"
RULE = "dest-entry-none"
MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
BUCKET = Bucket(RULE, "execve_stack")

Write = Callable[[str], str]
Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has a directory of its own, and nothing of the environment's colours."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Makes a case file x.case."""

    def make(text: str) -> str:
        (tmp_path / "x.case").write_text(text)
        return "x.case"

    return make


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    """A working directory with one finding, seen three times."""
    directory = tmp_path / "work"
    with Ledger.open(directory, clock=lambda: 1.7e9) as ledger:
        ledger.record(BUCKET, "linux-6.1", run_id="1", executions=7, count=3)
    case = parse(f"@kernel linux-6.1\n@expect {RULE}\n@found run seed=1\n{MAP}{STACK}")
    CaseStore(directory).save(BUCKET, case)
    return directory


def refused(output: Output) -> str:
    """What a refused command said: one message on stderr, nothing else."""
    out, err = output.readouterr()
    assert out == ""
    assert err.startswith("pmdfuzz: ")
    assert "Traceback" not in err
    return err.removeprefix("pmdfuzz: ")


# replay


def test_replay_as_expected(write: Write, capsys: Output) -> None:
    path = write(f"@kernel linux-6.1\n@expect {RULE}\n@expect linux-6.18 ok\n{STACK}")
    assert main(["replay", path]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"ok   x.case: linux-6.1 on x86-64: {RULE} (known: B-01), as expected",
        "ok   x.case: linux-6.18 on x86-64: ok, as expected",
        "2 replays, 0 not as expected",
    ]


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


def test_replay_goes_on_after_a_file_that_is_no_case(write: Write, capsys: Output) -> None:
    assert main(["replay", "missing.case", write(f"@expect ok\n{MAP}")]) == 2
    out, err = capsys.readouterr()
    assert "ok   x.case: linux-6.18" in out
    assert err == "pmdfuzz: missing.case: cannot be read: No such file or directory\n"


# Input that is wrong


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
        (".", "cannot be read: Is a directory"),
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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["fuzz"], "invalid choice: 'fuzz'"),
        (["replay"], "the following arguments are required: CASE"),
        (["show", "a", "b"], "unrecognized arguments: b"),
        (["run", "--time", "soon"], "'soon' is not a time: 60, 90s, 10m, 8h, 2d"),
        (["run", "--time", "0"], "'0' is not a time"),
        (["run", "--runs", "-1"], "'-1' is not a positive whole number"),
        (["run", "--seed", "x"], "'x' is not a positive whole number"),
    ],
)
def test_wrong_usage(words: list[str], message: str, capsys: Output) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        [],
        *([name] for name in ("run", "replay", "show", "minimize", "findings", "kernels", "rules")),
        *(["findings", name] for name in ("list", "show", "promote")),
    ],
    ids=" ".join,
)
def test_help_names_the_exit_statuses(words: list[str], capsys: Output) -> None:
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    for line in ("0    as expected", "1    findings", "2    bad input", "130  stopped by Ctrl-C"):
        assert line in out


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


# findings


def test_findings_list(workdir: Path, capsys: Output) -> None:
    assert main(["findings", "--workdir", "work"]) == 0
    head, row, hint = capsys.readouterr().out.splitlines()
    assert head.split() == ["finding", "calls", "seen", "first", "last", "kernels"]
    assert row.split()[:3] == [BUCKET.name, "2", "3"]
    assert row.endswith("linux-6.1")
    assert hint == f"Look with: pmdfuzz findings show {BUCKET.name} --workdir work"


def test_findings_list_puts_known_defects_last(workdir: Path, capsys: Output) -> None:
    store = CaseStore(workdir)
    case = parse(f"@kernel linux-6.1\n{STACK}")
    store.save(Bucket("a", "mmap", "B-99"), case)
    store.save(Bucket("z", "mmap"), case)
    assert main(["findings", "--workdir", "work"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]]
    assert names == [BUCKET.name, "z--mmap", "a--mmap--B-99"]


def test_findings_list_without_a_ledger(workdir: Path, capsys: Output) -> None:
    (workdir / "ledger.sqlite").unlink()
    assert main(["findings", "list", "--workdir", "work"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        *(BUCKET.name, "2", "-", "-", "-", "linux-6.1")
    ]
    assert not (workdir / "ledger.sqlite").exists()


def test_findings_list_with_a_damaged_ledger(workdir: Path, capsys: Output) -> None:
    (workdir / "ledger.sqlite").write_bytes(b"no database" * 100)
    assert main(["findings", "list", "--workdir", "work"]) == 2
    out, err = capsys.readouterr()
    assert BUCKET.name in out
    assert err.startswith("pmdfuzz: work/ledger.sqlite: not a")


def test_findings_list_before_any_run(tmp_path: Path, capsys: Output) -> None:
    assert main(["findings"]) == 0
    assert capsys.readouterr().out.startswith("no findings: .pmdfuzz is not there")
    (tmp_path / "empty").mkdir()
    assert main(["findings", "list", "--workdir", "empty"]) == 0
    assert capsys.readouterr().out == "no findings in empty\n"
    (tmp_path / "file").touch()
    assert main(["findings", "--workdir", "file"]) == 2
    assert refused(capsys) == "file: not a directory\n"


def test_findings_show(workdir: Path, capsys: Output) -> None:
    assert main(["findings", "show", BUCKET.name, "--workdir", "work"]) == 0
    assert "emptied <==" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["show", "promote"])
def test_unknown_findings_list_the_known_ones(action: str, workdir: Path, capsys: Output) -> None:
    assert main(["findings", "--workdir", "work", action, "rule--mmap"]) == 2
    assert refused(capsys) == f"no finding 'rule--mmap'; known: {BUCKET.name}\n"
    assert main(["findings", "--workdir", "work", action, "../escape"]) == 2
    assert "'../escape' is not the name of a finding" in refused(capsys)
    assert main(["findings", action, "rule--mmap"]) == 2
    assert refused(capsys) == "no finding 'rule--mmap'; there are none in .pmdfuzz\n"


def test_promote_writes_what_every_kernel_shows(workdir: Path, capsys: Output) -> None:
    words = ["findings", "promote", BUCKET.name, "--workdir", "work"]
    assert main(words) == 0
    path = Path(f"corpus/regressions/{BUCKET.name}.case")
    assert capsys.readouterr().out.splitlines()[-1] == f"Test with: pytest {path}"
    case = load(path)
    expected = dict(case.expects)
    assert list(expected) == list(KERNELS)
    assert (expected["linux-6.1"], expected["linux-6.18"]) == (RULE, "ok")
    assert [call.result for call in case.calls] == [0x200000, 0]
    assert main(["replay", str(path)]) == 0


def test_promote_replaces_nothing_unless_forced(workdir: Path, capsys: Output) -> None:
    words = ["findings", "promote", BUCKET.name, "--workdir", "work", "--to", "to", "--kernel"]
    assert main([*words, "linux-6.1"]) == 0
    path = Path(f"to/{BUCKET.name}.case")
    before = path.read_text()
    capsys.readouterr()
    assert main([*words, "linux-6.18"]) == 2
    assert refused(capsys) == f"{path} is there already; --force replaces it\n"
    assert path.read_text() == before
    assert main([*words, "linux-6.18", "--force"]) == 0
    assert load(path).expects == (("linux-6.18", "ok"),)


def test_promote_to_a_file_in_the_way(workdir: Path, tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "to").touch()
    words = ["findings", "promote", BUCKET.name, "--workdir", "work", "--to", "to"]
    assert main(words) == 2
    assert refused(capsys) == "to: not a directory\n"


# run


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[RunOptions]:
    """What `run` would have been started with."""
    seen: list[RunOptions] = []

    def record(options: RunOptions) -> int:
        seen.append(options)
        return 1

    monkeypatch.setattr("fuzz.cli.run.run", record)
    return seen


def test_run_hands_its_options_on(chosen: list[RunOptions]) -> None:
    words = "run --kernel linux-6.1 --kernel linux-6.7 --geometry i386 --time 2m --runs 9 --seed 3"
    more = "--ops mmap,mremap --workdir w --no-seeds --count-known -- -fork=1 -x"
    assert main([*words.split(), *more.split()]) == 1
    assert chosen == [
        RunOptions(
            workdir=Path("w"),
            kernels=("linux-6.1", "linux-6.7"),
            geometries=("i386",),
            seconds=120,
            runs=9,
            seed=3,
            calls=frozenset({"mmap", "mremap"}),
            seeds=(),
            count_known=True,
            libfuzzer=("-fork=1", "-x"),
        )
    ]


def test_run_by_default(chosen: list[RunOptions]) -> None:
    main(["run"])
    assert chosen == [RunOptions(workdir=Path(".pmdfuzz"))]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--ops", "mmap,reboot,clone"],
            f"--ops: unknown reboot, clone; known: {', '.join(sorted(MODELLED_CALLS))}",
        ),
        (["--ops", ","], "--ops names no call; known: "),
        (["--kernel", "linux-9.9"], "unknown kernel 'linux-9.9'; known: "),
        (["--geometry", "vax"], "unknown geometry 'vax'; known: "),
    ],
)
def test_run_refuses(
    words: list[str], message: str, chosen: list[RunOptions], capsys: Output
) -> None:
    assert main(["run", *words]) == 2
    assert refused(capsys).startswith(message)
    assert chosen == []


# kernels, rules


def test_kernels_lists_switches_kernels_and_geometries(capsys: Output) -> None:
    assert main(["kernels"]) == 0
    out = capsys.readouterr().out
    for switch in SWITCHES.values():
        assert f"\n{switch.name} " in out
        assert f"    {switch.when}: {switch.text}\n" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["realign"][1:] == ["-", "-", "yes", "yes", "yes"]
    assert f"kernels:    {', '.join(KERNELS)}" in out
    assert f"names: {'; '.join(KNOWN_NAMES)}" in out
    assert "i386 PAE, 3 levels, preallocated PMD tables" in out


def test_rules_lists_the_catalogue(capsys: Output) -> None:
    assert main(["rules"]) == 0
    out = capsys.readouterr().out
    assert all(f"{rule.id}  {rule.slug} " in out for rule in RULES)
    assert main(["rules", RULE, "I-03"]) == 0
    heads = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert [head[:4] for head in heads] == ["I-01", "I-03"]
    assert main(["rules", "no-such-rule"]) == 2
    assert refused(capsys).startswith("unknown rule 'no-such-rule'; known: dest-entry-none, ")


# The process


def test_interrupt_is_130_without_a_traceback(
    write: Write, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cases, "loaded", interrupted)
    assert main(["show", write(STACK)]) == 130
    assert capsys.readouterr().err == "\n"


def test_closed_pipe_is_quiet() -> None:
    command = f"{sys.executable} -m fuzz rules; echo $? >&2"
    with subprocess.Popen(
        ["/bin/sh", "-c", f"({command}) | true"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert process.stderr.read() in ("141\n", "0\n")  # 0: it was faster than `true`


def test_terminal_without_unicode(write: Write) -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "fuzz", "show", write(f"# caf\u00e9\n{STACK}")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert shown.stdout.startswith(b"# caf\\xe9\n")


def test_starting_loads_nothing_heavy() -> None:
    program = "import sys, fuzz.cli.main; print(*sys.modules)"
    shown = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(shown.stdout.split())
    assert "fuzz.cli.main" in loaded
    assert not loaded & {"atheris", "rich", "sqlite3", "sortedcontainers", "engine.move"}


@pytest.mark.parametrize("words", [["run"], ["museum", "all"]], ids=" ".join)
def test_the_cadences_of_the_rules_are_those_that_programs_run_with(
    words: list[str], capsys: Output
) -> None:
    assert main([*words, "--rules-after", "never"]) == 2
    told = capsys.readouterr().err
    assert all(cadence in told for cadence in get_args(RulesAfter))

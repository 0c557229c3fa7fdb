"""`findings`: what a working directory holds, listed, drawn, promoted."""

import json
import time
from datetime import datetime
from pathlib import Path

import pytest

from engine.base.kernel import KERNELS
from fuzz.cli.main import main
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import CaseStore
from fuzz.findings.ledger import Ledger
from fuzz.forms.text import load, parse
from fuzz.showing import replay
from tests.lib.command import BUCKET, RULE, STACK, Output, refused


def test_findings_list(workdir: Path, capsys: Output) -> None:
    assert main(["findings", "--workdir", "work"]) == 0
    head, row, hint = capsys.readouterr().out.splitlines()
    assert head.split() == [
        *("finding", "state", "defect", "severity", "geometry", "calls", "seen", "first", "last"),
        *("harm", "kernels"),
    ]
    assert row.split()[:7] == [BUCKET.name, "new", "unknown", "contract", "x86-64", "2", "3"]
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


def several(workdir: Path) -> None:
    """Three findings more, of other kinds; the ledger's clock is long ago."""
    store = CaseStore(workdir)
    text = f"@kernel linux-6.12\n@geometry small\n{STACK}"
    for bucket in (Bucket("a", "mmap", "B-99"), Bucket("leaf-has-vma", "mremap"), Bucket("z", "a")):
        store.save(bucket, parse(text))
    with Ledger.open(workdir) as ledger:
        ledger.record(Bucket("a", "mmap", "B-99"), "linux-6.18", run_id="1", executions=1)
        ledger.states.change(Bucket("z", "a"), "fixed")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", [BUCKET.name, "leaf-has-vma--mremap", "z--a", "a--mmap--B-99"]),
        ("--unknown", [BUCKET.name, "leaf-has-vma--mremap", "z--a"]),
        ("--since 12h", ["z--a", "a--mmap--B-99"]),
        ("--state new", [BUCKET.name, "a--mmap--B-99"]),
        ("--state open --state fixed", ["leaf-has-vma--mremap", "z--a"]),
        ("--kernel linux-6.18", ["a--mmap--B-99"]),
        ("--kernel linux-6.12", ["leaf-has-vma--mremap", "z--a"]),
        (f"--rule {RULE}", [BUCKET.name]),
        ("--rule z", ["z--a"]),
        ("--rule stack-placed", []),
        ("--unknown --since 12h --state new --kernel linux-6.18 --rule a", []),
    ],
)
def test_findings_list_selects(words: str, names: list[str], workdir: Path, capsys: Output) -> None:
    several(workdir)
    assert main(["findings", "--workdir", "work", "list", *words.split()]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()[1:-1]] == names
    if not names:
        assert out == "no findings in work; 4 of other kinds\n"
    assert main(["findings", "list", "--workdir", "work", "--json", *words.split()]) == 0
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == names


def test_findings_list_as_json(workdir: Path, capsys: Output) -> None:
    several(workdir)
    assert main(["findings", "accept", BUCKET.name, "--why", "so", "--workdir", "work"]) == 0
    capsys.readouterr()
    assert main(["findings", "list", "--workdir", "work", "--json"]) == 0
    one, other, *_ = json.loads(capsys.readouterr().out)
    changed = one.pop("changed")
    assert abs(datetime.fromisoformat(changed).timestamp() - time.time()) < 600
    assert one == {
        "name": BUCKET.name,
        "rule": RULE,
        "call": "execve_stack",
        "defect": None,
        "state": "accepted",
        "why": "so",
        "severity": "contract",
        "geometry": "x86-64",
        "calls": 2,
        "case": f"work/findings/{BUCKET.name}.case",
        "seen": {"linux-6.1": 3},
        "first": "2023-11-14T22:13:20+00:00",
        "last": "2023-11-14T22:13:20+00:00",
        "harm": None,
    }
    assert (other["severity"], other["geometry"], other["first"]) == ("harm", "small", None)


@pytest.mark.parametrize("what", ["rule", "kernel"])
def test_a_rule_or_kernel_that_is_none_is_refused(what: str, workdir: Path, capsys: Output) -> None:
    assert main(["findings", "list", "--workdir", "work", f"--{what}", "linux-9"]) == 2
    assert refused(capsys).startswith(f"unknown {what} 'linux-9'")


def test_kernels_side_by_side_are_told_as_a_range(workdir: Path, capsys: Output) -> None:
    with Ledger.open(workdir) as ledger:
        for name in ("linux-6.5", "linux-6.2", "linux-6.4"):
            ledger.record(BUCKET, name, run_id="1", executions=1)
    assert main(["findings", "list", "--workdir", "work"]) == 0
    assert capsys.readouterr().out.splitlines()[1].endswith("  linux-6.1 to 6.5")


def test_findings_list_without_a_ledger(workdir: Path, capsys: Output) -> None:
    (workdir / "ledger.sqlite").unlink()
    assert main(["findings", "list", "--workdir", "work"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == [
        *(BUCKET.name, "open", "unknown", "contract", "x86-64", "2"),
        *("-", "-", "-", "-", "linux-6.1"),
    ]
    assert not (workdir / "ledger.sqlite").exists()


def test_findings_list_with_a_damaged_ledger(workdir: Path, capsys: Output) -> None:
    (workdir / "ledger.sqlite").write_bytes(b"no database" * 100)
    assert main(["findings", "list", "--workdir", "work"]) == 2
    out, err = capsys.readouterr()
    assert BUCKET.name in out
    assert err.startswith("pmdfuzz: work/ledger.sqlite: not a")


def test_findings_list_before_any_run(tmp_path: Path, capsys: Output) -> None:
    assert main(["findings"]) == 2
    assert capsys.readouterr().err.startswith("pmdfuzz: no findings: .pmdfuzz is not there")
    (tmp_path / "empty").mkdir()
    assert main(["findings", "list", "--workdir", "empty"]) == 0
    assert capsys.readouterr().out == "no findings in empty\n"
    (tmp_path / "file").touch()
    assert main(["findings", "--workdir", "file"]) == 2
    assert refused(capsys) == "file: not a directory\n"


def test_findings_show(workdir: Path, capsys: Output) -> None:
    assert main(["findings", "show", BUCKET.name, "--workdir", "work"]) == 0
    assert "emptied <==" in capsys.readouterr().out


def test_what_a_finding_leads_to_goes_with_it(workdir: Path, capsys: Output) -> None:
    leak = parse(
        "@kernel linux-6.18\n@expect committed\n"
        "mmap(0x10000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "mremap(0x10000, 0x4000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000)\n"
    )
    CaseStore(workdir).save_harm(BUCKET, leak)
    assert main(["findings", "--workdir", "work"]) == 0
    _, row, _ = capsys.readouterr().out.splitlines()
    assert row.split()[0] == BUCKET.name
    assert row.split()[-2:] == ["committed", "linux-6.1"]

    assert main(["findings", "show", BUCKET.name, "--workdir", "work"]) == 0
    own, harm = capsys.readouterr().out.split("\nIt leads to this:\n")
    assert f"violation: {RULE} " in own
    assert harm.startswith(f"work/findings/{BUCKET.name}.harm.case: linux-6.18 on x86-64\n")
    assert "violation: committed" in harm

    words = ["findings", "promote", BUCKET.name, "--workdir", "work", "--kernel", "linux-6.18"]
    assert main(words) == 0
    paths = [f"corpus/regressions/{BUCKET.name}{end}" for end in (".case", ".harm.case")]
    assert capsys.readouterr().out.splitlines()[-1] == f"Test with: pytest {' '.join(paths)}"
    assert [expected.outcome for expected in load(Path(paths[1])).expects] == ["committed"]
    Path(paths[0]).unlink()
    assert main(words) == 2  # the other one is there still
    assert refused(capsys) == f"{paths[1]} is there already; --force replaces it\n"


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


OWN = "linux-6.18-realign-realign_stack"


def test_promote_wants_of_a_kernel_of_ones_own_what_its_base_does(
    tmp_path: Path, capsys: Output
) -> None:
    case = parse(f"@kernel {OWN}\n@expect {OWN} {RULE}\n{STACK}")
    CaseStore(tmp_path / "own").save(BUCKET, case)
    words = ["findings", "promote", BUCKET.name, "--workdir", "own", "--to", "to"]
    assert main([*words, "--kernel", "linux-6.1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{OWN}: ok\nlinux-6.18: ok\nlinux-6.1: {RULE}\n")
    shown = replay(load(tmp_path / "to" / f"{BUCKET.name}.case"))
    assert [one.as_expected for one in shown] == [False, True, True]


def test_promote_keeps_what_another_kernel_did(tmp_path: Path, capsys: Output) -> None:
    bucket = Bucket(f"differs-{RULE}-realign-realign_stack", "execve_stack")
    text = f"@kernel {OWN}\n@like linux-6.18\n@expect linux-6.18 ok\n{STACK.strip()} = 0\n"
    CaseStore(tmp_path / "own").save(bucket, parse(text))
    assert main(["findings", "promote", bucket.name, "--workdir", "own", "--to", "to"]) == 0
    assert capsys.readouterr().out.startswith(f"{OWN}: as linux-6.18\nlinux-6.18: ok\n")
    assert (tmp_path / "to" / f"{bucket.name}.case").read_text() == text


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


# --- States ---------------------------------------------------------------------------------------


def state(capsys: Output) -> tuple[str, str | None]:
    """State of the first finding, and why."""
    capsys.readouterr()
    assert main(["findings", "list", "--workdir", "work", "--json"]) == 0
    first, *_ = json.loads(capsys.readouterr().out)
    return first["state"], first["why"]


def test_a_finding_is_accepted_with_a_reason(workdir: Path, capsys: Output) -> None:
    words = ["findings", "accept", "dest-entry", "--workdir", "work"]
    assert main([*words, "--why", " upstream will not fix it "]) == 0
    assert capsys.readouterr().out == f"{BUCKET.name}: accepted: upstream will not fix it\n"
    assert state(capsys) == ("accepted", "upstream will not fix it")
    assert main([*words, "--undo"]) == 0
    assert state(capsys) == ("open", None)


@pytest.mark.parametrize("words", [[], ["--why", " "], ["--why", "so", "--undo"]])
def test_nothing_is_accepted_without_a_reason(
    words: list[str], workdir: Path, capsys: Output
) -> None:
    assert main(["findings", "accept", BUCKET.name, "--workdir", "work", *words]) == 2
    assert "--why" in capsys.readouterr().err
    assert state(capsys) == ("new", None)


def test_a_name_may_be_cut_short_if_one_only_begins_so(workdir: Path, capsys: Output) -> None:
    longer = BUCKET._replace(defect="B-01")
    CaseStore(workdir).save(longer, parse(f"@kernel linux-6.1\n{STACK}"))
    accept = ["findings", "accept", "--workdir", "work", "--why", "so"]
    assert main([*accept, "dest"]) == 2
    assert refused(capsys) == f"'dest' begins 2 names: {longer.name}, {BUCKET.name}\n"
    assert main([*accept, BUCKET.name]) == 0
    assert main([*accept, f"{BUCKET.name}--B"]) == 0
    assert main([*accept, "nothing"]) == 2
    assert main(["findings", "accept", "--workdir", "none", "--why", "so", "x--a"]) == 2
    assert not Path("none").exists()


def test_retest_tells_what_is_fixed_and_what_is_not_any_more(workdir: Path, capsys: Output) -> None:
    known, store = BUCKET._replace(defect="B-01"), CaseStore(workdir)
    store.save(known, parse(f"@kernel linux-6.1\n{STACK}"))
    retest = ["findings", "retest", "--workdir", "work"]
    assert main(retest) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"fixed       {BUCKET.name}: its case shows {known.name} now",
        f"shown       {known.name}",
        "findings retested: 1 shown, 1 gone; of these 1 fixed",
    ]
    with Ledger.open(workdir) as ledger:
        ledger.states.change(known, "fixed")
    assert main(retest) == 1
    assert f"REOPENED    {known.name}\n" in capsys.readouterr().out
    assert main(retest) == 0


def test_retest_of_a_damaged_ledger_is_refused(workdir: Path, capsys: Output) -> None:
    (workdir / "ledger.sqlite").write_bytes(b"no database" * 100)
    assert main(["findings", "retest", "--workdir", "work"]) == 2
    assert refused(capsys).startswith("work/ledger.sqlite: not an SQLite database")
    assert main(["findings", "retest", "--workdir", "none"]) == 2
    assert refused(capsys).startswith("no findings: none is not there")


def test_findings_show_a_mail(workdir: Path, capsys: Output) -> None:
    bucket = Bucket(RULE, "execve_stack", "B-01")
    case = parse(f"@kernel linux-6.1\n{STACK}")
    CaseStore(workdir).save(bucket, case)
    CaseStore(workdir).save_harm(bucket, case)
    with Ledger.open(workdir) as ledger:
        ledger.record(bucket, "linux-6.1", run_id="1", executions=1, count=2)
    assert main(["findings", "show", bucket.name, "--mail", "--workdir", "work"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("Subject: [BUG] mm/mremap: the stack's move meets the table")
    assert "Runs have met it on the models of 6.1 (2x)." in out
    assert "What it may lead to\n" in out


def test_findings_show_no_mail_of_what_is_gone(workdir: Path, capsys: Output) -> None:
    bucket = Bucket("stack-placed", "execve_stack")
    CaseStore(workdir).save(bucket, parse(f"@kernel linux-6.1\n{STACK}"))
    assert main(["findings", "show", bucket.name, "--mail", "--workdir", "work"]) == 2
    assert "does not show on linux-6.1 any more" in refused(capsys)

"""`findings`: what a working directory holds, listed, drawn, promoted."""

from pathlib import Path

import pytest

from engine.base.kernel import KERNELS
from fuzz.cli.main import main
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import CaseStore
from fuzz.forms.text import load, parse
from fuzz.showing import replay
from tests.lib.command import BUCKET, RULE, STACK, Output, refused


def test_findings_list(workdir: Path, capsys: Output) -> None:
    assert main(["findings", "--workdir", "work"]) == 0
    head, row, hint = capsys.readouterr().out.splitlines()
    assert head.split() == ["finding", "calls", "seen", "first", "last", "harm", "kernels"]
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
        *(BUCKET.name, "2", "-", "-", "-", "-", "linux-6.1")
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

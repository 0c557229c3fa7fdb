"""`pmdfuzz import`: what it writes and tells."""

from pathlib import Path

import pytest

from fuzz.cli.main import main
from fuzz.forms.text import load
from fuzz.showing import replay
from tests.lib.command import Output, Write, refused
from tests.lib.constants import ROOT

LOG = str(ROOT / "tests" / "fuzz" / "strace" / "logs" / "7.2-file.strace")
SHRINKS = (
    "mmap(0x10000200000, 16384, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0)"
    " = 0x10000200000\n"
    "mremap(0x10000200000, 16384, 8192, MREMAP_MAYMOVE|MREMAP_FIXED, 0x10040200000)"
    " = 0x10040200000\n"
)


def test_cases_are_written_and_can_be_replayed(capsys: Output) -> None:
    assert main(["import", "strace", LOG, "-o", "out"]) == 0
    told = capsys.readouterr().out
    assert f"{LOG}: 95 lines, 3 programs of 3 address spaces" in told
    assert told.endswith("pmdfuzz replay out\n")
    assert len(list(Path("out").iterdir())) == 3
    for path in Path("out").iterdir():
        (shown,) = replay(load(path))
        assert not shown.mismatches


def test_nothing_is_written_without_a_place(tmp_path: Path, capsys: Output) -> None:
    assert main(["import", "strace", LOG]) == 0
    assert capsys.readouterr().out.endswith("nothing is written: -o DIR\n")
    assert list(tmp_path.iterdir()) == []


def test_known_defects_are_named(capsys: Output) -> None:
    Path("app.strace").write_text(SHRINKS)
    words = ["import", "strace", "app.strace", "--kernel", "linux-6.18", "--kernel", "linux-7.3"]
    assert main(words) == 0
    told = capsys.readouterr().out
    assert "linux-6.18: 1 program, which meet" in told
    assert "the known defect shrink-leak, " in told and ": app-001" in told


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "app.strace: no line of this is strace's"),
        ("1 getpid() = 1\n", "no call that changes memory in there: trace with -f -o LOG -e "),
        (
            'write(1, "pmdfuzz x86-64: AT(0) is 0x5000\\n", 32) = 32\n'
            'write(1, "skipped: no swap\\n", 17) = 17\n',
            "the program could not run there, see above",
        ),
        ("1 munmap(0x1000, x) = 0\n", "app.strace:1:10: munmap is not as strace writes it: "),
    ],
)
def test_a_log_that_does_not_do(text: str, why: str, tmp_path: Path, capsys: Output) -> None:
    Path("app.strace").write_text(text)
    assert main(["import", "strace", "app.strace", "-o", "out"]) == 2
    assert why in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["app.strace"]


def test_a_place_that_is_taken(capsys: Output) -> None:
    Path("out").mkdir()
    Path("out/x").touch()
    assert main(["import", "strace", LOG, "-o", "out"]) == 2
    assert refused(capsys).startswith("out is there already")
    assert main(["import", "strace", "nowhere"]) == 2
    assert refused(capsys) == "nowhere: no such file\n"


def test_a_program_of_syzkaller(capsys: Output) -> None:
    Path("repro.syz").write_text("munmap(&(0x7f0000001000/0x1000)=nil, 0x1000)\ngetpid()\n")
    assert main(["import", "syz", "repro.syz", "-o", "out", "--kernel", "linux-7.3"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("repro.syz: 2 lines, 1 program of 1 address space\ncalls     munmap 1\n")
    assert "1  getpid, about something else\n        repro.syz:2: getpid()\n" in told
    (case,) = Path("out").iterdir()
    assert case.name == "repro-001.case"
    assert case.read_text().startswith("# repro.syz, program 1 of syzkaller\n@kernel linux-6.18\n")


@pytest.mark.parametrize(
    ("form", "line"), [("strace", "munmap(0x100000200000, 4096)"), ("syz", "munmap(&")]
)
def test_what_an_export_leaves_out_is_told(
    form: str, line: str, write: Write, capsys: Output
) -> None:
    path = write("munmap(0x200000, 0x1000)\nfork()\nsoft_dirty_clear()\n")
    assert main(["export", path, "--as", form]) == 0
    out, err = capsys.readouterr()
    assert line in out
    assert "soft_dirty_clear" in (err if form == "strace" else out)


@pytest.mark.parametrize(
    ("form", "line"),
    [
        ("strace", "mseal(0x100000200000, 4096, 0)"),
        ("strace-6.13", "mseal(0x100000200000, 4096, 0)"),
        ("strace-6.1", "syscall_0x1ce(0x100000200000, 0x1000, 0, 0, 0, 0)"),
    ],
)
def test_the_versions_of_strace(form: str, line: str, write: Write, capsys: Output) -> None:
    assert main(["export", write("mseal(0x200000, 0x1000)\n"), "--as", form]) == 0
    assert capsys.readouterr().out.startswith(line)


def test_a_case_that_fits_nowhere(write: Write, capsys: Output) -> None:
    path = write("@geometry tiny\nmunmap(0x200, 0x10)\n")
    for form in ("strace", "syz"):
        assert main(["export", path, "--as", form]) == 2
        assert "x86-64, not " in refused(capsys)
    path = write("munmap(0x200000, 0x40000000)\n")
    assert main(["export", path, "--as", "syz"]) == 2
    assert "slots of 2 MiB" in refused(capsys)

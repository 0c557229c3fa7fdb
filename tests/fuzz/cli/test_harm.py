"""`harm`: what a case leads to."""

from pathlib import Path

from fuzz.cli.main import main
from fuzz.forms.text import load
from fuzz.showing import replay
from tests.lib.command import Output, Write, refused
from tests.lib.constants import ROOT

WRAPS = str(ROOT / "corpus" / "museum" / "b-09-result-wraps.case")
NO_HARM = "execve_stack(0xbfb00000, 0xc0000000, 0x400000)\n"


def test_harm_is_drawn_and_can_be_kept(capsys: Output) -> None:
    assert main(["harm", WRAPS, "--kernel", "linux-6.7"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("move-result--mremap--B-09 leads to ")
    assert "\ntouch(0x80000000, 0x1000) = 0\n" in out
    assert "\nviolation: oracle-contents at [0x80000000, 0x80001000)\n" in out
    again = out.splitlines()[-1].removeprefix("Keep it with: ").split()
    assert again[:2] == ["pmdfuzz", "harm"]
    assert again[3:5] == ["--kernel", "linux-6.7"]
    assert again[-1] == f"{again[2].removesuffix('.case')}.harm.case"

    assert main(["harm", WRAPS, "--kernel", "linux-6.7", "-o", "x.harm.case"]) == 0
    assert capsys.readouterr().out.endswith("Reproduce with: pmdfuzz replay x.harm.case\n")
    (shown,) = replay(load(Path("x.harm.case")))
    assert shown.as_expected
    assert shown.kernel.name == "linux-6.7"
    assert shown.kernel.geometry.name == "i386"


def test_no_harm_is_found(write: Write, capsys: Output) -> None:
    path = write(NO_HARM)
    assert main(["harm", path, "--kernel", "linux-6.1", "--budget", "20"]) == 0
    said = capsys.readouterr().out
    assert said == "dest-entry-none--execve_stack--B-01: no harm in 20 programs near it\n"


def test_what_does_harm_itself_says_so(write: Write, capsys: Output) -> None:
    path = write(
        "mmap(0x10000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "mremap(0x10000, 0x4000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000)\n"
    )
    assert main(["harm", path, "--kernel", "linux-6.18"]) == 0
    assert capsys.readouterr().out == "committed--mremap--shrink-leak does harm itself\n"


def test_a_case_without_a_finding_is_refused(write: Write, capsys: Output) -> None:
    assert main(["harm", write(NO_HARM), "--kernel", "linux-6.18"]) == 2
    assert refused(capsys) == "x.case: no rule is broken on linux-6.18\n"

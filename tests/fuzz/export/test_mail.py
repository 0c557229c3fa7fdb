"""A finding as a mail: what kernel mailing lists expect of one."""

import pytest

from fuzz.export.mail import mail
from fuzz.export.program import ExportError
from fuzz.forms.text import load, parse
from tests.lib.constants import ROOT

REGRESSIONS = ROOT / "corpus/regressions"


def mailed(name: str, kernel: str | None = None) -> str:
    return mail(load(REGRESSIONS / f"{name}.case"), name, kernel, "pmdfuzz export --as mail")


@pytest.mark.parametrize(
    "name", ["wrapping-overlap", "thread-c-overlapping", "soft-dirty-lost-by-merge"]
)
def test_no_line_is_wider_than_75_columns(name: str) -> None:
    for line in mailed(name).expandtabs(8).splitlines():
        assert len(line) <= 75, line


def test_a_mail_says_what_happens_where_and_has_a_program() -> None:
    lines = mailed("dontunmap-counts-locked-twice").splitlines()
    assert lines[:2] == ["Subject: [BUG] mm: mremap: DONTUNMAP miscounts locked memory", ""]
    assert "The calls below show it on linux-6.15 to 7.2.9." in lines
    assert any("locked_kib()" in line for line in lines)
    assert not any("no program" in line for line in lines)


def test_without_a_program_it_says_why() -> None:
    text = " ".join(mailed("thread-c-overlapping").split())
    assert "There is no program in C: no program can do that: execve_stack: how far" in text


def test_where_nothing_is_wrong_there_is_nothing_to_mail() -> None:
    with pytest.raises(ExportError, match=r"nothing is wrong on linux-6\.18"):
        mail(parse("munmap(0x10000, 0x1000)\n"), "case", "linux-6.18", "")

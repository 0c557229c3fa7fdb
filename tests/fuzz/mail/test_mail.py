"""Mails: they can be read by programs for mail, and claim no more than is known."""

import email
import re
import unicodedata
from dataclasses import replace
from email import policy
from email.message import EmailMessage
from pathlib import Path

import pytest

from fuzz.case import Case
from fuzz.defects.catalogue import exhibit_named
from fuzz.export.check import COLUMNS
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import parse
from fuzz.mail.mail import mail
from fuzz.mail.matter import MailError, Standing, matter
from fuzz.showing import showing
from tests.lib.compilers import built, compiler
from tests.lib.constants import ROOT
from tests.lib.workdirs import hostile, regression

CASES = sorted((ROOT / "corpus").glob("regressions/*.case")) + sorted(
    (ROOT / "corpus").glob("museum/*.case")
)
STACK_THAT_WARNS = regression("regressions/thread-c-overlapping")


def read(text: str) -> EmailMessage:
    """What a program for mail makes of it, if it has the form that lists want."""
    assert all(len(line.expandtabs(8)) <= COLUMNS for line in text.splitlines())
    unseen = {letter for letter in text if unicodedata.category(letter).startswith("C")}
    assert unseen <= {"\n", "\t"}
    message = email.message_from_bytes(text.encode(), policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    assert list(message) == [
        *("Subject", "MIME-Version", "Content-Type", "Content-Transfer-Encoding")
    ]
    body = message.get_content()
    # To `git send-email` and to mailboxes such lines mean something.
    assert not re.search(r"^(From |[A-Za-z-]+-by:|Cc:|---$)", body, re.M | re.I)
    return message


def told(case: Case, *how: object) -> tuple[str, str]:
    """The subject and the text of the mail about a case, in one line each."""
    message = read(mail(matter(case, *how)))  # type: ignore[arg-type]
    return " ".join(message["Subject"].split()), " ".join(message.get_content().split())


def program(text: str) -> Case:
    """The case that stands in a mail."""
    lines = text.partition("\nProgram\n")[2].splitlines()[2:]
    block = [line.removeprefix("    ") for line in lines]
    return parse("\n".join(block[: block.index("", 1)]))


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=[f"{path.parent.name}/{path.stem}" for path in CASES])
def test_every_case_can_be_told(path: Path) -> None:
    about = matter(regression(f"{path.parent.name}/{path.stem}"))
    text = mail(about, even_if_it_crashes=True)
    read(text)
    if about.danger:
        assert "mremap(" not in text
        return
    case = program(text)
    assert [call[:2] for call in case.calls] == [call[:2] for call in about.case.calls]
    shown = showing(case, about.kernel)
    assert shown.as_expected
    assert shown.rule == case.expects[0].outcome


def test_a_known_defect_says_since_when_and_until() -> None:
    subject, text = told(regression("regressions/shrinking-move-leaks-commit"))
    assert subject == "[BUG] mm/mremap: a FIXED move that shrinks leaks commit charge"
    assert "observed: 2 pages committed (Committed_AS) expected: 1, the pages of the VMAs" in text
    assert "Releases with shrink-leak: 6.15 to 7.2." in text
    assert "7.3 does not have it any more" in text
    assert "Machines: none is recorded, but for what the notes below say." in text
    assert "Fixes:" not in text


def test_a_program_in_c_is_in_it_and_builds(tmp_path: Path) -> None:
    text = mail(matter(regression("regressions/wrapping-overlap")))
    built(text[text.index("// SPDX") :], tmp_path, compiler("cc"))


def test_why_there_is_no_program_in_c() -> None:
    _, text = told(STACK_THAT_WARNS)
    assert "There is none. execve_stack: how far exec moves a stack is chance" in text
    assert "--on host" not in text


def test_a_drawing_is_of_the_call_that_breaks_the_rule() -> None:
    text = mail(matter(STACK_THAT_WARNS))
    assert "when dest-entry-none is broken:\n~ linux-6.6 on x86-64" in text
    assert "\n~    0x1e00000   PTE table         0/512 |................|  emptied <==\n" in text
    assert " faulted <==\n" in text  # nothing is cut off


def test_a_hypothetical_is_a_question() -> None:
    subject, text = told(regression("regressions/relocate-neighbour-below-new"))
    assert subject.startswith("[RFC] mm/mremap: hypothetical: ")
    assert "no report of a bug, but a question" in text
    assert "There is none. relocate: no caller in the kernel" in text
    assert "Releases with" not in text


def test_of_what_is_not_known_the_model_says_so() -> None:
    """A bug of the past, put back by a change of the model: to it, an unknown one."""
    exhibit = exhibit_named("B-12-own-head")
    case = replace(regression("museum/b-12-own-head"), comments=(), expects=())
    with exhibit.installed():
        about = matter(case)
        assert about.standing is Standing.UNKNOWN
        subject, text = told(case)
    assert subject.startswith("[UNCONFIRMED] mm/mremap: broken: ")
    assert "says so; it was not tried on a machine, as far as is recorded." in text
    assert "It may be a mistake of the model" in text
    assert "Machines: none is recorded." in text
    assert "[BUG]" not in subject


def test_of_a_kernel_that_is_no_release_that_is_said() -> None:
    case = parse(
        "@kernel linux-6.18-merge_links_source\n"
        "mremap(0x1000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x1800) = -EINVAL\n"
    )
    about = replace(matter(case), bucket=Bucket("fixed-exact", "mremap"))
    message = read(mail(about))
    assert message["Subject"].startswith("[REVIEW] mm/mremap: -merge_links_source: broken: ")
    assert "which no release is" in " ".join(message.get_content().split())


def test_of_a_machine_it_is_said_that_the_model_may_be_wrong() -> None:
    case = replace(regression("regressions/wrapping-overlap"), kernel="linux-6.18", expects=())
    subject, text = told(case, None, Bucket("machine-differs", "mremap"))
    assert subject == "[QUESTION] mm/mremap: machine differs"
    assert "it may be the model" in text
    assert "Machines: which one it was is not recorded." in text


def test_machines_that_have_shown_it_are_named_as_text() -> None:
    case = replace(regression("regressions/wrapping-overlap"), kernel="linux-6.18", expects=())
    name = "Linux 6.18.44\nCc: a@b.c\u202e\x1b[31m" + "x" * 200
    bucket = Bucket("machine-differs", "mremap")
    _, text = told(case, None, bucket, {"linux-6.18": 3}, None, {name: 3, "Linux 7": 1})
    assert "Runs have met it beside the models of 6.18 (3x)." in text
    assert "Machines that have shown it: Linux 6.18.44 Cc: a@b.c[31mxxx" in text
    assert "… (3x), Linux 7 (1x)." in text
    _, text = told(regression("regressions/wrapping-overlap"), None, None, {}, None, {"one": 1})
    assert "Machines that have shown it: one (1x)." in text


def test_what_breaks_nothing_is_no_report() -> None:
    subject, text = told(parse("munmap(0x1000, 0x1000) = 0\n"))
    assert subject == "[TEST] mm/mmap: a program that breaks no rule"
    assert "it is a test, no report" in text


def test_what_may_crash_a_kernel_is_told_in_words_if_that_is_wanted() -> None:
    about = matter(regression("museum/b-45-hugetlb-skip"))
    with pytest.raises(MailError, match=r"security@kernel\.org"):
        mail(about)
    text = mail(about, even_if_it_crashes=True)
    read(text)
    assert "mmap(" not in text
    assert "the program is not here" in " ".join(text.split())


def test_what_does_not_show_any_more_is_refused() -> None:
    with pytest.raises(MailError, match=r"does not show on linux-6\.18 any more"):
        matter(
            replace(regression("regressions/wrapping-overlap"), kernel="linux-6.18"),
            None,
            Bucket("stack-placed", "mremap"),
        )


def test_nothing_that_a_case_says_leaves_its_paragraph() -> None:
    comments = (
        *hostile(Case()).comments[:-1],
        "Cc: everybody@example.com",
        "From nobody Mon Sep 17 00:00:00 2001",
        "Signed-off-by: Somebody <somebody@example.com>",
        "---",
        "*/ int main(void) { return 0; } /*",
        "\r\nBcc: nobody@example.com",
    )
    case = replace(regression("regressions/wrapping-overlap"), comments=comments)
    text = mail(matter(case))
    message = read(text)
    assert message["Bcc"] is None
    assert "everybody@example.com" in text
    assert "*/ int main" not in text[text.index("// SPDX") :]
    long = replace(case, comments=hostile(case).comments)
    assert len(mail(matter(long))) < len(text) + 4000

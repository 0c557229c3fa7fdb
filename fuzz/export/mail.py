"""A finding as a mail to a kernel mailing list: plain text of at most 75 columns."""

import re
import textwrap
from collections.abc import Iterator

from engine.base.kernel import releases_with
from engine.state import terms
from fuzz.case import Case
from fuzz.defects.known import DEFECTS
from fuzz.export.check import COLUMNS
from fuzz.export.met import met_on_releases
from fuzz.export.program import ExportError, as_c
from fuzz.matrix import in_short
from fuzz.rules.index import BY_SLUG
from fuzz.showing import Showing, kernel_to_see, showing
from fuzz.tell.story import story

_CUT = "-" * 34 + " 8< " + "-" * 34
_GAP = re.compile(r"(?<=\S)   +(?=\S)")  # of a drawing: there are some blanks to spare


def mail(case: Case, name: str, kernel_name: str | None, made_by: str) -> str:
    """The report of what a case shows.

    Arguments: `name` what the case is called; `kernel_name` the kernel it is told of (None: the
    first on which it expects a broken rule); `made_by` the command that makes the mail.
    Errors raised: CaseError, UnknownName; ExportError if nothing is wrong there.
    """
    kernel = kernel_to_see(case, kernel_name)
    found = showing(case, kernel)
    if found.bucket is None:
        raise ExportError(f"nothing is wrong on {kernel.name}")
    program, why_not = "", ""
    try:
        program = as_c(case, name, kernel_name, made_by)
    except ExportError as error:
        why_not = str(error)
    lines = [*_subject(found), ""]
    for paragraph in _paragraphs(found, case, has_program=bool(program)):
        lines += [*_filled(paragraph), ""]
    drawn = story(case, kernel).splitlines()
    lines += [f"As a model of {kernel.name} has it (- before a call, + after it):", ""]
    lines += [piece for line in drawn for piece in _fitted(f"  {line}".rstrip())]
    lines.append("")
    if program:
        lines += [f"{name}.c:", "", _CUT, program.rstrip(), _CUT]
    else:
        lines += _filled(f"There is no program in C: {why_not}.")
    return "\n".join(lines) + "\n"


def _subject(found: Showing) -> list[str]:
    """The subject; what does not fit into a line is folded (RFC 5322, 2.2.3)."""
    bucket = found.bucket
    assert bucket is not None
    first = DEFECTS.get(bucket.defect.partition("+")[0])
    what = first.title if first else f"broken: {_promise(bucket.rule)}"
    text = f"Subject: [BUG] mm: {bucket.call}: {what}"
    return textwrap.wrap(text, COLUMNS, subsequent_indent=" ", break_on_hyphens=False)


def _paragraphs(found: Showing, case: Case, *, has_program: bool) -> Iterator[str]:
    """What happens, since when, and how it is seen."""
    bucket, kernel = found.bucket, found.kernel
    assert bucket is not None and found.found is not None
    defects = [DEFECTS[id_] for id_ in bucket.defect.split("+") if id_]
    yield from (defect.text for defect in defects if defect.text)
    if case.comments:
        yield " ".join(case.comments)
    yield f"The kernel promises that {_promise(bucket.rule)}."
    yield f"Instead: {terms.violation(kernel.geometry, found.found.violation)}"
    for defect in defects:
        yield f"Kernels with it, by their sources: {releases_with(defect.bad)}."
    if met := met_on_releases(case).get(bucket):
        yield f"The calls below show it on {', '.join(in_short(met))}."
    if has_program:
        yield (
            "The program at the end makes these calls and says whether the kernel that it runs on "
            "does so (exit status 1) or not (0)."
        )


def _promise(rule: str) -> str:
    """What a rule says, if it is one."""
    return BY_SLUG[rule].statement if rule in BY_SLUG else rule


def _filled(paragraph: str) -> list[str]:
    """A paragraph in lines; those that are indented stay so."""
    lines: list[str] = []
    for line in paragraph.splitlines():
        indented = line.startswith("  ")
        lines += _fitted(line) if indented else textwrap.wrap(line, COLUMNS, break_on_hyphens=False)
    return lines


def _fitted(line: str) -> list[str]:
    """A line of a drawing: blanks between its columns go first, then it is broken."""
    while len(line) > COLUMNS and (gaps := list(_GAP.finditer(line))):
        widest = max(gaps, key=lambda gap: gap.end() - gap.start())
        line = line[: widest.start()] + line[widest.start() + 1 :]
    if len(line) <= COLUMNS:
        return [line]
    indent = re.match(r" *", line)
    assert indent is not None
    return textwrap.wrap(
        line, COLUMNS, subsequent_indent=f"{indent[0]}    ", break_on_hyphens=False
    )

"""Whether a known defect explains what a machine's kernel reports on its console.

Kernels report what a defect has left behind, when they come across it: often not in the course of
the call that did it.  The model of the same kernel leaves the same behind, as a broken rule.
"""

from engine.base.kernel import Kernel
from fuzz.case import Case
from fuzz.forms.text import parse_call
from fuzz.showing import showing
from fuzz.subjects.subject import Observation

# What is reported (`fuzz.vm.console.Report.what`), and the rules that what was left behind breaks.
_LEFT_BEHIND = {
    "BUG: non-zero pgtables_bytes on freeing mm": ("table-has-vma",),  # check_mm()
    # filemap_unaccount_folio(): a page still mapped when it is deleted
    "BUG: Bad page cache": ("leaf-has-vma", "pages-kept"),
}


def culprit(case: Case, report: Observation, kernel: Kernel) -> tuple[str, Case]:
    """The known defect that explains a report, and the program that it was met in.

    That is the one in whose course it came, or one of those before.
    Arguments: `report` of the kernel of a machine, see `fuzz.subjects.vm`.
    Returns: as `explained`, with the former if none does.
    """
    earlier = reversed(report.get("after", ()))
    before = (case.with_calls(tuple(map(parse_call, calls))) for calls in earlier)
    for one in (case, *before):
        if defect := explained(one, kernel, report["what"]):
            return defect, one
    return "", case


def explained(case: Case, kernel: Kernel, what: str) -> str:
    """The known defect of a kernel that explains what it reports in the course of a case.

    Arguments: `kernel` with the machine's page tables; `what` is reported.
    Returns: the defect's id, several with "+" between; empty: none does.
    """
    rules = _LEFT_BEHIND.get(what)
    if rules is None:
        return ""
    for shown in showing(case, kernel).findings:
        if any(found.violation.rule in rules for found in shown.broken):
            return shown.bucket.defect
    return ""

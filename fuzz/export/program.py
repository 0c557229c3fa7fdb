"""A case as a program in C that stands by itself, or as a test of the kernel's selftests."""

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from engine.base.kernel import releases_with
from fuzz.case import Case
from fuzz.export.checks import Checks, checks_of, wrapped
from fuzz.export.helpers import head, helpers
from fuzz.export.needs import needs, why_not
from fuzz.export.twins import Twins, twins
from fuzz.forms.text import format_call
from fuzz.rules.index import rule_named

_COLUMNS = 76  # of text in comments
LICENCE = "// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0"


class ExportError(Exception):
    """A case that cannot be exported so; the message says why."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a program tells its results: by which `part`, with what `includes` of its own."""

    part: str
    includes: tuple[str, ...] = ()
    decides: bool = True  # the verdict is about the defect, not about each check


PLAIN = Form("report")
KSELFTEST = Form("kselftest", ("../kselftest.h",), decides=False)


def as_c(case: Case, name: str, kernel: str | None, made_by: str, form: Form = PLAIN) -> str:
    """A case as a program.

    Arguments: `name` what to call it; `kernel` see `fuzz.export.twins.twins`; `made_by` the command
    that makes it.
    Errors raised: CaseError, UnknownName; ExportError if no program can do what the case does.
    """
    if why := why_not(case):
        raise ExportError(f"no program can do that: {why}")
    pair = twins(case, kernel)
    checks = checks_of(pair)
    if not form.decides:
        checks = checks.of_promises()
    body = "\n\n".join((_calls(pair, checks), _main(pair, checks, form)))
    parts = helpers(body, form.part)
    code = f"{parts}\n\n{body}"
    if "KERNEL" in parts:
        code = f'#define KERNEL "{pair.kernel.name}"\n\n{code}'
    intro = _comment(_intro(pair, checks, name, made_by, form))
    return f"{LICENCE}\n{intro}\n{head(code, form.includes)}\n\n{code}\n"


def _calls(pair: Twins, checks: Checks) -> str:
    """The calls, in order, and what is checked."""
    lines = ["static void run_case(void)", "{"]
    for number, (call, step) in enumerate(zip(pair.case.calls, checks.steps, strict=True), 1):
        if not step.checks:
            if not call.name.startswith("@"):
                lines.append(f"\t/* Not run: {format_call(call)} */")
            continue
        if step.note:
            lines.append(f"\t/* {number}. {step.note} */")
        lines += [wrapped(check.line) for check in step.checks]
    if any(call.name == "fork" for call in pair.case.calls):
        lines.append("\tend_children();")
    if checks.end:
        lines += ["", "\t/* What is there now. */"]
        lines += [wrapped(check.line) for check in checks.end]
    return "\n".join((*lines, "}"))


def _main(pair: Twins, checks: Checks, form: Form) -> str:
    setup = [f"\t{line}" for line in needs(pair, "\n".join(check.line for check in checks.all))]
    if form.decides:
        first = ["\tsetvbuf(stdout, NULL, _IOLBF, 0);", f'\tputs("{_title(pair)}");']
        last = [f"\treturn {_verdict(pair, checks)}();"]
    else:
        number = sum(1 for _ in checks.all)
        first = ["\tksft_print_header();"]
        last = ["\tksft_finished();"]
        setup.append(f"\tksft_set_plan({number});")
    return "\n".join(("int main(void)", "{", *first, *setup, "\trun_case();", *last, "}"))


def _verdict(pair: Twins, checks: Checks) -> str:
    """The function that ends the program in words."""
    if not pair.found.findings:
        return "verdict_as_promised"
    if pair.right is None:
        return "verdict_found"
    return "verdict" if checks.decides else "verdict_unseen"


# --- The head -------------------------------------------------------------------------------------


def _title(pair: Twins) -> str:
    """What is wrong, in a line."""
    if pair.defects:
        return "; ".join(f"{one.id}: {one.headline}" for one in pair.defects)
    if pair.found.found is not None:
        return rule_named(pair.found.rule).statement
    return f"what {pair.kernel.name} does"


def _intro(pair: Twins, checks: Checks, name: str, made_by: str, form: Form) -> Iterator[str]:
    """The paragraphs at the head."""
    yield f"{name}: {_title(pair)}"
    for defect in pair.defects:
        if defect.text:
            yield defect.text
    if pair.case.comments:
        yield " ".join(pair.case.comments)
    for defect in pair.defects:
        yield f"Kernels with {defect.id}: {releases_with(defect.bad)}."
    if pair.found.findings:
        rule = rule_named(pair.found.rule)
        yield f"What is broken ({rule.slug}): {rule.statement}."
        if pair.right is not None and not checks.decides:
            yield (
                "NOT SEEN: a program sees no difference between a kernel with the defect and one "
                "without it, as nothing that the system tells of itself is otherwise. So this "
                "program says whether its calls do what they did where the defect was found."
            )
    if not form.decides:
        yield f"Made by: {made_by}"
        return
    yield (
        f"Build: cc -O2 -o {name} {name}.c\n"
        f"Run:   ./{name}\n"
        "Exit status: 0 as it should be, 1 the defect shows, 2 something else happens, 4 it cannot "
        "be tried here, and why is printed"
    )
    yield f"Made by: {made_by}"


def _comment(paragraphs: Iterable[str]) -> str:
    lines: list[str] = []
    for paragraph in paragraphs:
        for line in paragraph.splitlines():
            lines += textwrap.wrap(line, _COLUMNS, break_on_hyphens=False)
        lines.append("")
    told = (f" * {line}".rstrip().replace("*/", "* /") for line in lines[:-1])
    return "\n".join(("/*", *told, " */"))

"""A case as a program in C that stands by itself, or as a test of the kernel's selftests."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.base.kernel import releases_with
from fuzz.case import Case
from fuzz.export.check import COLUMNS, Checks, literal, wrapped
from fuzz.export.checks import checks_of
from fuzz.export.danger import dangers
from fuzz.export.helpers import head, helpers, words
from fuzz.export.needs import begins, definitions, needs, why_not
from fuzz.export.twins import Twins, twins
from fuzz.forms.c import END
from fuzz.lib.command import elsewhere
from fuzz.rules.index import rule_named

MAKEFILE = Path(__file__).with_name("parts") / "Makefile"  # for a folder of programs
# How a program is built that leaves what is low to the case.
LOW_ARENA = "-static -no-pie -Wl,-Ttext-segment=0xb0000000"
_LICENCE = "// SPDX-License-Identifier: GPL-2.0 OR Apache-2.0"


class ExportError(Exception):
    """A case that cannot be exported so; the message says why."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a program tells its results: by which `part`, with what `includes` of its own.

    `decides` says whether it ends in a verdict about the defect, and not about each check; `mark`
    is what its lines begin with.
    """

    part: str
    includes: tuple[str, ...] = ()
    decides: bool = True
    mark: str = ""


PLAIN = Form("report")
KSELFTEST = Form("kselftest", ("../kselftest.h",), decides=False, mark="# ")


def as_c(
    case: Case,
    name: str,
    kernel: str | None,
    made_by: str,
    form: Form = PLAIN,
    *,
    even_if_it_crashes: bool = False,
) -> str:
    """A case as a program.

    Arguments: `name` what to call it; `kernel` see `fuzz.export.twins.twins`; `made_by` the command
    that makes it; `even_if_it_crashes` a kernel that somebody may run it on.
    Errors raised: CaseError, UnknownName; ExportError if no program can do what the case does, or
    a kernel may crash of it.
    """
    if why := why_not(case):
        raise ExportError(f"no program can do that: {why}")
    danger = dangers(case)
    if danger and not even_if_it_crashes:
        why = "; ".join(danger)
        raise ExportError(f"a kernel may crash or hang of it: {why}; see --even-if-it-crashes")
    pair = twins(case, kernel)
    deciding = checks_of(pair)
    checks = deciding if form.decides else deciding.of_promises()
    body = "\n\n".join((_calls(pair, checks), _main(pair, checks, form)))
    parts = helpers(body, form.part)
    used = words(f"{parts}\n{body}")
    known = {**definitions(pair.kernel), "MARK": f'#define MARK "{form.mark}"'}
    defined = "\n".join(line for name, line in known.items() if name in used)
    code = "\n\n".join((defined, parts, body))
    paragraphs = (
        *_intro(pair, name, danger, seen=deciding.decides),
        *_usage(pair, name, form),
        f"Made by: {made_by}",
    )
    return f"{_LICENCE}\n{_comment(paragraphs)}\n{head(code, form.includes)}\n\n{code}\n"


# --- The program ----------------------------------------------------------------------------------


def _calls(pair: Twins, checks: Checks) -> str:
    """The calls, in order, and what is checked."""
    lines = []
    for number, step in enumerate(checks.steps, 1):
        lines += [f"/* {number}. {step.note} */"] if step.note and step.checks else []
        lines += [check.line for check in step.checks]
    if any(call.name == "fork" for call in pair.case.calls):
        lines.append("end_children();")
    if checks.end:
        lines += ["", f'TELL_LINE("{END}");', *(check.line for check in checks.end)]
    return _function("static void run_case(void)", lines)


def _main(pair: Twins, checks: Checks, form: Form) -> str:
    """What sets it all up, and tells what came of it."""
    code = "\n".join(check.line for check in checks.all)
    setup, begin = needs(pair), tuple(begins(pair, code))
    if not form.decides:
        tested = sum(1 for check in checks.all if check.right is not None)
        first = ("ksft_print_header();", "introduce();", *setup, *begin)
        lines = (*first, f"ksft_set_plan({tested});", "run_case();", "ksft_finished();")
        return _function("int main(void)", lines)
    opening = [f"TELL_LINE({literal(_title(pair))});", "introduce();", *setup]
    verdict = _verdict(pair, checks)
    if "committed_pages()" in code:  # which others change
        end = ("end_monitor();",) if "begin_monitor();" in begin else ()
        lines = (*begin, "run_case();", *end, "return came_to();")
        run = _function("static int run(void)", lines)
        opening.append(f"return {verdict}(in_most_of_several(run));")
        return f"{run}\n\n{_function('int main(void)', opening)}"
    came_to = "came_to()" if verdict == "verdict" else ""
    last = ("run_case();", f"return {verdict}({came_to});")
    return _function("int main(void)", (*opening, *begin, *last))


def _function(declaration: str, statements: Iterable[str]) -> str:
    body = (wrapped(line) if line else "" for line in statements)
    return "\n".join((declaration, "{", *body, "}"))


def _verdict(pair: Twins, checks: Checks) -> str:
    """The function that ends the program in words."""
    if not pair.found.findings:
        return "verdict_as_promised"
    if pair.right is None:
        return "verdict_found"
    return "verdict" if checks.decides else "verdict_unseen"


# --- The comment at its head ----------------------------------------------------------------------


def _title(pair: Twins) -> str:
    """What is wrong, in a line."""
    if pair.defects:
        return "; ".join(f"{one.id}: {one.headline}" for one in pair.defects)
    if pair.found.found is not None:
        return f"broken: {rule_named(pair.found.rule).statement}"
    return f"what {pair.kernel.name} does"


def _intro(pair: Twins, name: str, danger: Sequence[str], *, seen: bool) -> Iterator[str]:
    """What it is about, a paragraph each.  Arguments: `seen` a program can see the defect."""
    yield f"{name}: {_title(pair)}"
    for what in danger:
        yield f"WARNING: a kernel may crash or hang of this program. {what}."
    if pair.shown.observation.get("warn"):
        yield "WARNING: the kernel warns, and panics where panic_on_warn is set."
    if pair.loses:
        yield "WARNING: what the system loses by it stays lost until it is booted again."
    yield from (defect.text for defect in pair.defects if defect.text)
    if pair.case.notes:
        yield " ".join(pair.case.notes)
    for defect in pair.defects:
        yield f"Kernels with {defect.id}: {releases_with(defect.bad)}."
    if pair.found.findings:
        rule = rule_named(pair.found.rule)
        yield f"What is broken ({rule.slug}): {rule.statement}."
        if pair.right is not None and not seen:
            yield (
                "NOT SEEN: nothing that a kernel tells of itself is otherwise with the defect than "
                "without it. So this program says only whether its calls do what they did where "
                "the defect was found."
            )


def _usage(pair: Twins, name: str, form: Form) -> Iterator[str]:
    """How it is built and run."""
    geometry = pair.kernel.geometry
    flags = "-m32 " if geometry.word_bits == 32 else ""
    flags += "" if geometry.arena.start else f"{LOW_ARENA} "
    if form.decides:
        yield (
            f"Build: cc -O2 {flags}-o {name} {name}.c\n"
            f"Run:   ./{name}\n"
            "Exit status: 0 as it should be, 1 the defect shows, 2 something else happens, 4 it "
            "cannot be tried here, and why is printed"
        )
        back = elsewhere("import", "strace", "LOG")
        yield f"Trace: strace -f -o LOG ./{name}\n       {back}"
    else:
        where = "tools/testing/selftests/mm, whose Makefile gets:"
        yield f"Goes into {where}\nTEST_GEN_FILES += {name}"


def _filled(line: str, taken: int) -> list[str]:
    """A line in several; so many columns are `taken` by what stands around it."""
    return textwrap.wrap(line, COLUMNS - taken, break_on_hyphens=False)


def _command(line: str) -> list[str]:
    """A command in several lines, which a shell reads as one."""
    *first, last = _filled(line, 5)
    return [*(f"{part} \\" for part in first), last]


def _comment(paragraphs: Iterable[str]) -> str:
    lines: list[str] = []
    for paragraph in paragraphs:
        for line in paragraph.splitlines():
            lines += _command(line) if line.startswith("Build:") else _filled(line, 3)
        lines.append("")
    told = (f" * {line}".rstrip().replace("*/", "* /") for line in lines[:-1])
    return "\n".join(("/*", *told, " */"))

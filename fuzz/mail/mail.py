"""A case as a mail to those who care for the code: plain text, as their lists expect it.

Subject and body are there; whom it goes to, and from whom, is the sender's to say.  It can be
opened by mutt, or sent by `git send-email`.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from fuzz.calls.registry import DIRECTIVES
from fuzz.case import Case, Expectation, Result
from fuzz.export.check import COLUMNS
from fuzz.export.checks import checks_of
from fuzz.export.needs import why_not
from fuzz.export.program import as_c
from fuzz.export.twins import twins
from fuzz.forms.text import dump
from fuzz.lib.command import elsewhere
from fuzz.mail import fold, words
from fuzz.mail.matter import MailError, Matter, Standing
from fuzz.rules.index import BY_SLUG
from fuzz.showing import showing
from fuzz.subjects.against import of_machine, reported
from fuzz.tell.story import decisive

_HEADERS = """\
MIME-Version: 1.0
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit
"""
_FILE = "finding.case"
_SIGNS = "(- before, + after, ~ changed, <== where the rule is broken)"


def mail(matter: Matter, *, even_if_it_crashes: bool = False) -> str:
    """A mail about a matter, ready for a sender.

    Arguments: `even_if_it_crashes` tell in words of what a kernel may crash of.
    Errors raised: MailError if a kernel may crash of it, and that is not wanted.
    """
    words_only = bool(matter.danger) or (matter.bucket is not None and reported(matter.bucket))
    if words_only and not even_if_it_crashes:
        why = "; ".join(matter.danger) or "that is what was reported"
        raise MailError(
            f"a kernel may crash or hang of it: {why}; --even-if-it-crashes tells it in words. If "
            "it is not repaired yet, it belongs to security@kernel.org, and not on a list"
        )
    sections = _in_words(matter) if words_only else _sections(matter)
    subject = fold.header("Subject", words.subject(matter))
    return f"{subject}\n{_HEADERS}\n" + "\n\n".join(sections) + "\n"


def _about(matter: Matter) -> Iterator[str]:
    """What happens, and how much of that is known."""
    yield from map(fold.paragraph, words.happens(matter))
    if lines := list(words.observed(matter)):
        yield "\n".join(map(fold.item, lines))
    yield fold.paragraph(words.standing(matter))


def _in_words(matter: Matter) -> Iterator[str]:
    """What is said of what a kernel may crash of: how that is done is not among it."""
    yield from map(fold.paragraph, words.happens(matter))
    yield fold.paragraph(
        "A kernel may crash or hang of it, so the program is not here"
        + (f": {'; '.join(matter.danger)}." if matter.danger else ".")
    )
    yield fold.paragraph(
        words.standing(matter).partition("; the program says")[0].rstrip(".") + "."
    )
    yield _headed("Kernels", ["\n".join(map(fold.item, words.kernels(matter)))])
    yield _headed("With pmdfuzz", _looked_up(matter))


def _sections(matter: Matter) -> Iterator[str]:
    yield from _about(matter)
    yield _headed("Kernels", ["\n".join(map(fold.item, words.kernels(matter)))])
    yield _headed("Program", [_program(matter, matter.case)])
    if drawing := decisive(matter.case, matter.kernel, COLUMNS):
        yield _headed("What the call does", [f"{_SIGNS}\n" + "\n".join(drawing)])
    if matter.harm is not None:
        yield _headed("What it may lead to", _harm(matter, matter.harm))
    if matter.case.notes:
        yield _headed("Notes with the case", [fold.quoted(matter.case.notes)])
    yield _headed("With pmdfuzz", _looked_up(matter))
    yield _headed("In C", _in_c(matter))


def _headed(title: str, paragraphs: Iterable[str]) -> str:
    return "\n\n".join((f"{title}\n{'-' * len(title)}", *paragraphs))


def _program(matter: Matter, case: Case) -> str:
    """The calls with their results, in the form of a case that can be run."""
    shown = showing(case, matter.kernel)
    results: Sequence[Result | None] = shown.results
    results = (*results, *[None] * (len(case.calls) - len(results)))
    calls = [
        call._replace(result=None if call.name in DIRECTIVES else result)
        for call, result in zip(case.calls, results, strict=True)
    ]
    told = replace(
        case.with_calls(calls),
        kernel=matter.kernel.name,
        expects=(Expectation(None, shown.rule),),
        like=None,
        found=(),
        comments=(),
    )
    return fold.indented(line for each in dump(told).splitlines() for line in fold.call(each))


def _harm(matter: Matter, harm: Case) -> Iterator[str]:
    """A program near this one that loses something."""
    for expected in dict.fromkeys(one.outcome for one in harm.expects):
        if rule := BY_SLUG.get(expected):
            yield fold.paragraph(f"Another program, near that one, breaks this: {rule.statement}.")
    yield _program(matter, harm)


def _looked_up(matter: Matter) -> Iterator[str]:
    """How to see more of it."""
    yield fold.paragraph(words.MODEL)
    commands = []
    if not matter.danger and not (matter.bucket and reported(matter.bucket)):
        yield fold.paragraph(f"With the lines of the program, from @kernel on, in {_FILE}:")
        commands += [elsewhere("show", _FILE), elsewhere("replay", _FILE, "--kernel", "all")]
        if matter.standing is not Standing.OWN and not why_not(matter.case):
            commands.append(elsewhere("replay", _FILE, "--on", "host"))
    commands += [elsewhere("defects", one.id) for one in matter.defects]
    if commands:
        yield fold.indented(commands)


def _in_c(matter: Matter) -> Iterator[str]:
    """The program in C; or why there is none."""
    if why := why_not(matter.case):
        yield fold.paragraph(f"There is none. {why}.")
        return
    if matter.bucket is not None and of_machine(matter.bucket):
        yield fold.paragraph(
            "There is none: what a machine did otherwise is not what the model knows to check."
        )
        return
    for case in filter(None, (matter.case, matter.harm)):
        if _can_be_seen(case, matter.kernel.name):
            about = "It" if case is matter.case else "That of what it may lead to"
            yield fold.paragraph(f"{about} checks what comes of each call, and says so in words.")
            # Comments are told above, as what others have written.
            case = replace(case, comments=())
            yield as_c(case, "finding", matter.kernel.name, "pmdfuzz").rstrip("\n")
            return
    yield fold.paragraph(
        "There is none: nothing that a kernel tells user space is otherwise with the defect than "
        "without it."
    )


def _can_be_seen(case: Case, kernel_name: str) -> bool:
    """Is there anything for a program to see, as far as is known?"""
    if why_not(case):
        return False
    pair = twins(case, kernel_name)
    return pair.right is None or checks_of(pair).decides

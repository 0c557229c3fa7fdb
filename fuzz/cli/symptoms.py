"""`--on` of `pmdfuzz defects` and `museum list`: has this kernel that defect?"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

from fuzz.campaign.seeds import CORPUS
from fuzz.case import Case
from fuzz.cli.options import Parser, add_on
from fuzz.cli.subjects import machine_errors
from fuzz.defects.defect import Defect
from fuzz.forms.text import load
from fuzz.lib.exits import FINE, SURPRISES
from fuzz.lib.lines import columns, indented
from fuzz.lib.status import Fields, StatusLine
from fuzz.minimize.simplicity import simplicity
from fuzz.subjects.beside import model_of
from fuzz.subjects.named import subject_named
from fuzz.subjects.symptoms import Answer, Verdict, ask

ABOUT = (
    "With --on, the case of each, or a program near it, runs there: does it show what the model "
    "with the defect shows, or what the model without it does? What a program cannot see, or the "
    "subject cannot be asked for, is told. Exit status 1 then says that something is not as the "
    "model of its kernel has it."
)


class _Standing:
    """How many were asked; see fuzz.lib.status."""

    def __init__(self, wanted: int) -> None:
        self.wanted, self.done, self.name = wanted, 0, ""

    def fields(self) -> Fields:
        """For the status line."""
        return [(f"{self.done} of {self.wanted}", ""), (self.name, "")]


def add_symptoms(parser: Parser) -> None:
    """--on and --kernel."""
    add_on(parser, None, "ask this subject whether it has them")
    parser.add_argument(
        "--kernel",
        metavar="K",
        help="with --on: the model to compare it with (default: the one of its version)",
    )


def tell_symptoms(defects: Sequence[Defect], options: argparse.Namespace, *, full: bool) -> int:
    """Ask the subject that is named for each defect, and print what it says.

    Arguments: `full` shows the programs, too.
    Returns: the exit status.
    Errors raised: UsageError, UnknownName.
    """
    line, standing = StatusLine(sys.stderr), _Standing(len(defects))
    answers: list[Answer] = []
    others = sorted(map(load, CORPUS.rglob("*.case")), key=simplicity)
    with machine_errors(), subject_named(options.on) as subject:
        kernel = model_of(subject, (options.kernel,) if options.kernel else ()).kernel
        lacks = subject.able.lacks
        without = f"; it has no {', '.join(lacks)}" if lacks else ""
        print(f"{subject.name}, by the model {kernel.name}{without}")
        for defect in defects:
            standing.name = defect.name
            line.update(standing)
            answers.append(ask(defect, _case(defect), others, subject, kernel))
            standing.done += 1
        line.clear()
    rows = [("defect", "here", "model", "how, or why not")]
    rows += [(a.defect.name, a.verdict, _word(a), a.note) for a in answers]
    for row, answer in zip(columns(rows), (None, *answers), strict=True):
        print(row)
        if full and answer is not None and (program := answer.told(subject.name)):
            print(indented(program))
    return _summary(answers)


def _case(defect: Defect) -> Case:
    """The case that shows it."""
    name = f"museum/{defect.file}" if defect.museum else f"{defect.case}.case"
    return load(CORPUS / name)


def _word(answer: Answer) -> str:
    """What the model says of it, loudly if the subject says something else."""
    word = "has it" if answer.due else "has it not"
    return word if answer.agrees else f"{word.upper()}"


def _summary(answers: Sequence[Answer]) -> int:
    counted = Counter(answer.verdict for answer in answers)
    told = ", ".join(f"{counted[verdict]} {verdict}" for verdict in Verdict if counted[verdict])
    wrong = [answer.defect.name for answer in answers if not answer.agrees]
    how = f"not as the model says: {', '.join(wrong)}" if wrong else "all as the model says"
    print(f"{len(answers)} asked: {told}; {how}")
    return SURPRISES if wrong else FINE

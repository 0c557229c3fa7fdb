"""A case to be looked at: step by step as text, as a picture, and as a program in C."""

from dataclasses import dataclass

from engine.base.kernel import Kernel
from fuzz.bounded import Unjudged
from fuzz.case import Case, CaseError
from fuzz.export.program import ExportError, as_c
from fuzz.lib.command import elsewhere
from fuzz.picture.picture import picture
from fuzz.subjects.likeness import likeness
from fuzz.tell.story import story


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as SVG, without its style, which a page has once for all of them.

    `film` has its moments in one place, to be leafed through, `sheet` the decisive ones in two
    columns; `captions` are those of the film, whose `first` is seen.  `weight` is how bad what it
    shows is, `means` why that matters.
    """

    weight: str
    means: str
    film: str
    sheet: str
    captions: tuple[str, ...]
    first: int


@dataclass(frozen=True, slots=True)
class Views:
    """What there is of a case: its `story`, its picture, the `program` in C, or `why_not`."""

    story: str = ""
    picture: Picture | None = None
    program: str = ""
    why_not: str = ""


def views(case: Case, kernel: Kernel, name: str) -> Views:
    """Those of a case on a kernel.

    Arguments: `name` what the case is called.
    Errors raised: CaseError, Unjudged.
    """
    beside = likeness(case)
    program, why_not = _program(case, kernel, name)
    return Views(
        beside.told() if beside is not None else story(case, kernel),
        _picture(case, kernel, name),
        program,
        why_not,
    )


def _picture(case: Case, kernel: Kernel, name: str) -> Picture:
    made = picture(case, kernel, name)
    captions = tuple(step.caption for step in made.steps)
    film, sheet = made.film(styled=False), made.sheet(styled=False)
    return Picture(made.weight, made.means, film, sheet, captions, made.failing)


def _program(case: Case, kernel: Kernel, name: str) -> tuple[str, str]:
    """The program, or why there is none."""
    try:
        made_by = elsewhere("export", f"{name}.case", "--as", "c")
        return as_c(case, name, kernel.name, made_by), ""
    except (ExportError, CaseError, Unjudged) as error:
        return "", str(error)

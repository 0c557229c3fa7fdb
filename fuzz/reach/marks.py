"""Marks: branches of the model that a corpus is to reach, each with the test that explains it.

A comment behind a statement of the engine marks it, or one above it:

    return Errno.EPERM  # mark: first-page-sealed

    # mark: no-table-to-walk, unreachable: only with a bug (B-15); and so on, over several
    # lines of comment
    _report_leaf(...)

It costs nothing where nobody looks.  That its line ran is known from the interpreter (`Watch`), so
a mark belongs where a branch has gone one way: a refusal, a mover, a way back.  The test that says
what the branch is about names it, `@explains("first-page-sealed")`, and fails if it does not run
the line (tests/lib/explains.py); or a case of the corpus does, in a comment `# mark: NAME, NAME`.

A switch by which kernels differ has two marks without any comment, `+realign` and `-realign`: that
a program has asked for it where it is on, and where it is off (`fuzz.noted`).  What explains them
are the cases of tests/fuzz/test_switches.py.
"""

import ast
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from engine.base.kernel import SWITCHES, releases
from fuzz.reach.measure import HOME, MODEL

_MARK = re.compile(r"(?P<before>.*?)# mark: (?P<name>[a-z0-9-]+)(?:, unreachable: (?P<why>.+))?")
_READ = re.compile(r"""[."'](\w+)\b|^    (\w+): Annotated""")
_OF_CASE = re.compile(r"^# mark: ([a-z0-9, -]+)$", re.MULTILINE)
_OF_SWITCHES = "tests/fuzz/test_switches.py::test_a_switch_is_read_and_shows"


class MarkError(Exception):
    """A mark that cannot be understood; the message says where."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A branch: its name, where it is, and why no program reaches it, if so ("": one does).

    `path` is below the project's directory, `line` counts from 1; that of a switch is where it is
    read first.
    """

    name: str
    path: str
    line: int
    unreachable: str = ""

    @property
    def where(self) -> str:
        """The place, for people."""
        return f"{self.path}:{self.line}"


@cache
def marks(model: Path = MODEL) -> tuple[Mark, ...]:
    """Those in the files of the model, in order of place.  Errors raised: MarkError."""
    found: dict[str, Mark] = {}
    for path in sorted(model.rglob("*.py")):
        for mark in marks_in(path.read_text(encoding="utf-8"), _below(path, model)):
            if (other := found.setdefault(mark.name, mark)) is not mark:
                raise MarkError(f"{mark.where}: {mark.name} is the mark of {other.where}, too")
    return tuple(found.values())


def _below(path: Path, model: Path) -> str:
    return path.relative_to(model.parent).as_posix()


def marks_in(source: str, path: str) -> Iterator[Mark]:
    """The marks of one file.  Errors raised: MarkError if one marks no statement."""
    starts = {node.lineno for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)}
    lines = source.splitlines()
    for number, text in enumerate(lines, 1):
        if "# mark:" not in text:
            continue
        if not (found := _MARK.fullmatch(text)):
            raise MarkError(f"{path}:{number}: not `# mark: NAME` or `…, unreachable: REASON`")
        why, line = [found["why"] or ""], number
        if not found["before"].strip():  # it stands above its statement
            while lines[line : line + 1] and lines[line].lstrip().startswith("# "):
                why.append(lines[line].strip()[2:])
                line += 1
            line += 1
            if not found["why"] and len(why) > 1:
                why = [""]  # another comment, about the statement
        if line not in starts:
            raise MarkError(f"{path}:{number}: {found['name']} marks no statement")
        yield Mark(found["name"], path, line, " ".join(filter(None, why)))


@cache
def of_switches() -> tuple[Mark, ...]:
    """The two marks of each switch that the model reads."""
    places = _places_of_switches()
    return tuple(
        Mark(sign + name, *places[name], _why_never(name, sign == "+"))
        for name, switch in SWITCHES.items()
        if not switch.unread
        for sign in "+-"
    )


def _places_of_switches() -> Mapping[str, tuple[str, int]]:
    """Where each switch is read first, or its name is, else where it is declared: file and line."""
    declared = MODEL / "base" / "kernel.py"  # which reads some for others
    others = sorted(path for path in MODEL.rglob("*.py") if path != declared)
    places: dict[str, tuple[str, int]] = {}
    for path in (*others, declared):
        for number, text in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for name in itertools.chain(*_READ.findall(text)):
                if name in SWITCHES:
                    places.setdefault(name, (_below(path, MODEL), number))
    return places


def _why_never(name: str, on: bool) -> str:
    """Why no kernel that a run is about takes that arm of a switch."""
    if all(getattr(kernel, name) is not on for kernel in releases()):
        return "no release has it" if on else "every release has it"
    return ""


@cache
def explained(home: Path = HOME) -> Mapping[str, tuple[str, ...]]:
    """The tests that explain each mark, by its name, as pytest names them.

    Those are functions with the decorator, and cases with a comment `# mark: NAME`.  Empty where
    there are no tests, as in an installed package.
    """
    found: dict[str, list[str]] = {}
    for path in sorted((home / "tests").rglob("test_*.py")):
        source = path.read_text(encoding="utf-8")
        if "@explains(" not in source:
            continue
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef):
                for name in _explained_by(node):
                    test = f"{path.relative_to(home).as_posix()}::{node.name}"
                    found.setdefault(name, []).append(test)
    for path in sorted((home / "corpus").rglob("*.case")):
        for names in _OF_CASE.findall(path.read_text(encoding="utf-8")):
            for name in names.split(", "):
                found.setdefault(name, []).append(path.relative_to(home).as_posix())
    return {name: tuple(tests) for name, tests in found.items()}


def _explained_by(test: ast.FunctionDef) -> Iterator[str]:
    """The names in the decorators of a test."""
    for one in test.decorator_list:
        match one:
            case ast.Call(func=ast.Name(id="explains"), args=args):
                yield from (str(arg.value) for arg in args if isinstance(arg, ast.Constant))


def explaining(mark: Mark) -> tuple[str, ...]:
    """The tests that explain a mark."""
    if mark.name[0] in "+-":
        return (f"{_OF_SWITCHES}[{mark.name[1:]}]",) if (HOME / "tests").is_dir() else ()
    return explained().get(mark.name, ())

"""Which statements of the model a change has touched: lines that differ from a git revision."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from fuzz.reach.measure import HOME, MODEL
from fuzz.reach.reached import ReachError

_FILE = re.compile(r"\+\+\+ b/(.*)")
_HUNK = re.compile(r"@@ -\S+ \+(\d+)(?:,(\d+))? @@")


def changed_lines(revision: str, home: Path = HOME) -> dict[str, set[int]]:
    """The lines of the model that are otherwise, or not there, in a revision.

    Returns: their numbers, from 1, by path below `home`; files that git does not know count whole.
    Errors raised: ReachError if this is no checkout, or there is no such revision.
    """
    model = MODEL.name
    _git(home, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", revision=revision)
    changed: dict[str, set[int]] = {}
    options = ("--unified=0", "--no-color", "--no-ext-diff", "--no-renames", "--relative")
    path = ""
    for line in _git(home, "diff", *options, revision, "--", model).splitlines():
        if found := _FILE.fullmatch(line):
            path = found[1]
        elif found := _HUNK.match(line):
            first, count = int(found[1]), int(found[2] or 1)
            changed.setdefault(path, set()).update(range(first, first + count))
    for name in _git(home, "ls-files", "--others", "--exclude-standard", model).splitlines():
        text = (home / name).read_text(encoding="utf-8", errors="replace")
        changed[name] = set(range(1, len(text.splitlines()) + 1))
    return {name: lines for name, lines in changed.items() if name.endswith(".py") and lines}


def statements(source: str, lines: set[int]) -> set[int]:
    """Where the statements begin that these lines are part of; not what is nested in them.

    Lines of comments, and empty ones, are part of none.
    """
    begins: dict[int, int] = {}
    for first, last in _spans(ast.parse(source)):
        for line in range(first, last + 1):
            begins[line] = first
    return {begins[line] for line in lines if line in begins}


def _spans(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """First and last line of each statement without what is nested in it, which comes later."""
    for node in ast.walk(tree):
        match node:
            case ast.match_case():
                yield _header(node, node.pattern.lineno)
            case ast.stmt() | ast.excepthandler() if hasattr(node, "body"):
                yield _header(node, node.lineno)
            case ast.stmt():
                yield node.lineno, node.end_lineno or node.lineno


def _header(node: ast.AST, first: int) -> tuple[int, int]:
    """The lines of a statement that has a body, as far as its expressions go."""
    nested = ast.stmt | ast.excepthandler | ast.match_case
    parts = (part for part in ast.iter_child_nodes(node) if not isinstance(part, nested))
    inner = (one for part in parts for one in ast.walk(part))
    return first, max([first, *(getattr(one, "end_lineno", first) for one in inner)])


def _git(home: Path, *words: str, revision: str = "") -> str:
    """What git says.  Errors raised: ReachError."""
    try:
        done = subprocess.run(
            ["git", "-c", f"safe.directory={home}", "-c", "core.quotePath=off", *words],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError as error:
        raise ReachError(f"--changed needs git: {error.strerror}") from None
    if done.returncode:
        if revision and (home / ".git").exists():
            raise ReachError(
                f"--changed: {revision!r} is no revision of this checkout (files go before it)"
            )
        raise ReachError(f"--changed: {home} is no git checkout: {done.stderr.strip()}")
    return done.stdout

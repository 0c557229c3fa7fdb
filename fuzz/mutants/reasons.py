"""Why a mutant survives: explanations by hand, kept in tests/mutants.toml.

    [[survivor]]
    module = "engine.move"
    function = "move_page_tables"
    was = "if move.length == 0:"
    now = "if False:"
    kind = "equivalent"
    reason = "the loop does nothing then either"

`operator` and `nth` may be given where the others fit several mutants.  Kinds: `equivalent` no
state tells the two apart; `unreachable` only states tell them apart that no call leads to;
`accepted` they can be told apart, and the reason says why nothing does.
"""

import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz.mutants.mutate import Mutant

EQUIVALENT, UNREACHABLE, ACCEPTED = "equivalent", "unreachable", "accepted"
NOT_COUNTED = frozenset((EQUIVALENT, UNREACHABLE))
_NEEDED = ("module", "function", "was", "now", "kind", "reason")
_OPTIONAL = ("operator", "nth")


class ReasonError(ValueError):
    """The file of reasons is not what it should be; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Reason:
    """One explanation, for every mutant that it fits."""

    module: str
    function: str
    was: str
    now: str
    kind: str
    reason: str
    operator: str | None = None
    nth: int | None = None

    def fits(self, mutant: Mutant) -> bool:
        """Does it speak of this mutant?"""
        return (self.module, self.function, self.was, self.now) == (
            mutant.module,
            mutant.function,
            mutant.was,
            mutant.now,
        ) and (self.operator in (None, mutant.operator) and self.nth in (None, mutant.nth))

    def __str__(self) -> str:
        return f"{self.module} {self.function}: {self.was} -> {self.now}"


def load(path: Path) -> list[Reason]:
    """The reasons in a file; none if there is no file.  Errors raised: ReasonError."""
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8")).get("survivor", [])
    except FileNotFoundError:
        return []
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ReasonError(f"{path}: {error}") from error
    return [_reason(entry, f"{path}: survivor {n}") for n, entry in enumerate(entries, 1)]


def _reason(entry: dict[str, Any], where: str) -> Reason:
    missing = [name for name in _NEEDED if name not in entry]
    unknown = sorted(set(entry) - {*_NEEDED, *_OPTIONAL})
    if missing or unknown:
        raise ReasonError(f"{where}: missing {missing}, unknown {unknown}")
    if entry["kind"] not in (EQUIVALENT, UNREACHABLE, ACCEPTED):
        raise ReasonError(f"{where}: kind {entry['kind']!r} is none of the three")
    return Reason(**entry)


def reason_for(mutant: Mutant, reasons: Iterable[Reason]) -> Reason | None:
    """The first reason that fits."""
    return next((reason for reason in reasons if reason.fits(mutant)), None)


def stale(reasons: Iterable[Reason], survivors: Iterable[Mutant]) -> list[Reason]:
    """Reasons that speak of no survivor: their mutant is killed, or gone."""
    left = list(survivors)
    return [reason for reason in reasons if not any(reason.fits(mutant) for mutant in left)]

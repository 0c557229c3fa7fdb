"""What came out: a table by file, and the survivors with their reasons."""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fuzz.mutants.judge import KINDS, Fate
from fuzz.mutants.mutate import Mutant
from fuzz.mutants.reasons import NOT_COUNTED, Reason

RULES, TESTS, DIFFERS, SAME, UNREACHED = "rules", "tests", "differs", "same", "unreached"


class Row(NamedTuple):
    """One mutant and all that is known of it; None: not judged yet, or not explained.

    `tests` is the test that failed, empty if none did.
    """

    mutant: Mutant
    fate: Fate | None
    tests: str | None
    reason: Reason | None

    @property
    def survives_rules(self) -> bool:
        """Judged, and not noticed by rules or oracle."""
        return self.fate is not None and not self.fate.kind

    @property
    def survivor(self) -> str:
        """How it compares with the engine as it is: differs, same or unreached."""
        assert self.fate is not None
        if self.fate.differs is not None:
            return DIFFERS
        return SAME if self.fate.runs else UNREACHED

    @property
    def counts(self) -> bool:
        """Could it be killed at all, as far as we know?"""
        return not (
            self.survives_rules and self.reason is not None and self.reason.kind in NOT_COUNTED
        )


def table(rows: Sequence[Row]) -> Iterator[str]:
    """The figures by file.

    The score is what rules and oracle killed, of those judged that are not explained as
    equivalent or unreachable.
    """
    modules = list(dict.fromkeys(row.mutant.module for row in rows))
    head = ("file", "mutants", "rules+oracle", "tests", "differs", "same", "unreached")
    yield f"{head[0]:12}" + "".join(f"{name:>14}" for name in (*head[1:], "explained", "score"))
    parts = [(module, [row for row in rows if row.mutant.module == module]) for module in modules]
    if len(parts) > 1:
        parts.append(("all", list(rows)))
    for module, part in parts:
        yield _line(module, part)
    kinds = Counter(row.fate.kind for row in rows if row.fate and row.fate.kind)
    yield ""
    yield "killed by " + ", ".join(f"{kind} {kinds[kind]}" for kind in KINDS)


def _line(module: str, rows: Sequence[Row]) -> str:
    judged = [row for row in rows if row.fate is not None]
    killed = sum(not row.survives_rules for row in judged)
    counted = sum(row.counts for row in judged)
    left = [row for row in judged if row.survives_rules]
    by_tests = sum(bool(row.tests) for row in left)
    kinds = Counter(row.survivor for row in left)
    explained = sum(row.reason is not None for row in left)
    numbers = (
        f"{len(judged)}" if len(judged) == len(rows) else f"{len(judged)} of {len(rows)}",
        str(killed),
        f"+{by_tests}",
        *(str(kinds[kind]) for kind in (DIFFERS, SAME, UNREACHED)),
        f"{explained} of {len(left)}",
        f"{killed / counted:.1%}" if counted else "-",
    )
    name = f"{module.rpartition('.')[2]}.py" if "." in module else module
    return f"{name:12}" + "".join(f"{number:>14}" for number in numbers)


def survivors(rows: Sequence[Row], sources: dict[str, bytes]) -> Iterator[str]:
    """Those that rules and oracle left, with diff and reason; what is not explained comes first."""
    left = [row for row in rows if row.survives_rules]
    for row in sorted(left, key=lambda row: (row.reason is not None, row.survivor)):
        by = f"; killed by {row.tests}" if row.tests else ""
        yield f"{row.mutant.id}  {row.survivor}{by}"
        yield f"  {row.mutant.module}.{row.mutant.function}, {row.mutant.operator}"
        for line in row.mutant.diff(sources[row.mutant.module]).splitlines()[2:]:
            if line[0] in "-+":
                yield f"  {line}"
        if row.reason is not None:
            yield f"  {row.reason.kind}: {row.reason.reason}"
        yield ""


def text(
    rows: Sequence[Row], sources: dict[str, bytes], stale: Sequence[Reason], reasons: Path
) -> str:
    """The whole report."""
    lines = [*table(rows), ""]
    told = list(survivors(rows, sources))
    if told:
        lines += ["Survivors of rules and oracle:", "", *told]
    for reason in stale:
        lines.append(f"{reasons}: stale, no survivor fits: {reason}")
    return "\n".join(lines).rstrip() + "\n"

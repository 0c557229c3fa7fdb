"""What an import has come to: what was taken, what was not, and where it was met first."""

from collections import Counter
from dataclasses import dataclass, field

from fuzz.lib.lines import several


@dataclass(slots=True)
class Imported:
    """Counts of what was imported, by kind.

    `calls` by name; `changed` what cases have otherwise, `assumed` what they have that nobody saw,
    `left_out` what they do not have: of each how often, and the first place and text.
    """

    programs: int = 0
    processes: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    changed: dict[str, tuple[int, str]] = field(default_factory=dict)
    assumed: dict[str, tuple[int, str]] = field(default_factory=dict)
    left_out: dict[str, tuple[int, str]] = field(default_factory=dict)

    def told(self) -> str:
        """All of it, for people."""
        lines = [
            f"{several(self.programs, 'program')} of {several(self.processes, 'address space')}",
            "calls     " + "  ".join(f"{name} {n}" for name, n in self.calls.most_common() if n),
        ]
        for title, kinds in (
            ("changed", self.changed),
            ("assumed", self.assumed),
            ("left out", self.left_out),
        ):
            if kinds:
                lines.append(f"{title}:")
            for kind, (number, first) in sorted(kinds.items(), key=lambda item: -item[1][0]):
                lines += [f"{number:>6}  {kind}", *([f"        {first}"] if first else [])]
        return "\n".join(lines)


def count(kinds: dict[str, tuple[int, str]], kind: str, first: str = "", number: int = 1) -> None:
    """One more, or `number` more, of a kind, met at a place."""
    before, seen = kinds.get(kind, (0, first))
    kinds[kind] = before + number, seen


def uncount(kinds: dict[str, tuple[int, str]], kind: str) -> None:
    """One less of a kind that was counted."""
    number, first = kinds.pop(kind)
    if number > 1:
        kinds[kind] = number - 1, first

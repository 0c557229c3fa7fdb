"""What a check has shown, kept in a file: the next one tells what got better, and what worse.

The file is JSON for people to read, and to commit beside what was checked: what that is, with its
version; the programs it was made with; how many agree, and each class of difference with the
simplest program that shows it.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from fuzz.lib.files import write_atomic

VERSION = 1


class BaselineError(ValueError):
    """A file is no baseline; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A class of differences: programs that show it, and the calls of the simplest."""

    programs: int
    simplest: list[str]


@dataclass(frozen=True, slots=True)
class Baseline:
    """What a check has shown.

    `implementation` is what was checked, with its version, `model` what it was compared with on
    which `geometry`; `cases` programs of `seed` ran, of which `agree` did; `unknown` names what it
    does not know at all; `calls` has, by name, how many of how many calls agree, `kinds` the
    classes of differences by what they are called.
    """

    implementation: str
    model: str
    geometry: str
    seed: int
    cases: int
    agree: int
    unknown: list[str]
    calls: Mapping[str, tuple[int, int]]
    kinds: Mapping[str, Seen]

    @classmethod
    def load(cls, path: Path) -> Self:
        """The baseline in a file.  Errors raised: BaselineError; OSError if it cannot be read."""
        try:
            return cls._of(json.loads(path.read_bytes()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"
            raise BaselineError(f"{path} is no baseline of a check ({why})") from None

    @classmethod
    def _of(cls, plain: Any) -> Self:
        if plain.pop("baseline") != VERSION:
            raise ValueError(f"not version {VERSION}")
        if not isinstance(plain["unknown"], list):
            raise TypeError("unknown is a list")
        numbers = [plain[name] for name in ("seed", "cases", "agree")]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("seed, cases and agree are numbers")
        kinds = {
            name: Seen(int(seen["programs"]), list(map(str, seen["simplest"])))
            for name, seen in plain.pop("kinds").items()
        }
        calls = {name: (int(agree), int(of)) for name, (agree, of) in plain.pop("calls").items()}
        return cls(**plain, calls=calls, kinds=kinds)

    def save(self, path: Path) -> None:
        """Write it to a file.  Errors raised: WriteError."""
        plain = {"baseline": VERSION} | asdict(self)
        write_atomic(path, json.dumps(plain, indent=1) + "\n")

    def worse(self, before: Self) -> bool:
        """Is there a class of differences that was not there, or something that it knew?"""
        return bool(self._new(before) or set(self.unknown) - set(before.unknown))

    def _new(self, before: Self) -> list[str]:
        return [name for name in self.kinds if name not in before.kinds]

    def told(self, before: Self) -> Iterator[str]:
        """What got better, and what worse, since `before`, a line each."""
        if before.implementation != self.implementation:
            yield f"the baseline is of {before.implementation}, this is {self.implementation}"
        for what, now, then in (
            ("another model", self.model, before.model),
            ("another geometry", self.geometry, before.geometry),
            ("other programs", self._programs(), before._programs()),
        ):
            if now != then:
                yield f"the baseline has {what}: {then}, not {now}"
        for name in self.unknown:
            if name not in before.unknown:
                yield f"worse: it does not know {name}"
        for name in before.unknown:
            if name not in self.unknown:
                yield f"better: it knows {name}"
        if self.unknown != before.unknown:
            yield "so other programs ran: numbers do not compare"
        for name in self._new(before):
            yield f"worse: {name}, in {self.kinds[name].programs} programs, is new"
        for name, seen in before.kinds.items():
            number = self.kinds[name].programs if name in self.kinds else 0
            if not number:
                yield f"better: {name}, in {seen.programs} programs, is gone"
            elif number != seen.programs:
                how = "worse" if number > seen.programs else "better"
                yield f"{how}: {name}: {number} programs, were {seen.programs}"
        if self.agree != before.agree:
            yield f"{self.agree} of {self.cases} programs agree, were {before.agree}"

    def _programs(self) -> str:
        return f"{self.cases} of seed {self.seed}"

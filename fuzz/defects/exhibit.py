"""What an exhibit is: a bug that the real code has had, put back into a model that is correct.

Bugs of released kernels are settings of `engine.base.kernel`.  Others, of development or of kernels
before 5.0, replace one function of the engine while a program runs.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from engine.base.geometry import Geometry
from engine.base.kernel import Kernel
from fuzz.case import Case
from fuzz.execute import Outcome, execute
from fuzz.rules.index import rule_named
from fuzz.rules.rule import Rule

Function = Any  # a function of any signature, or a property


@dataclass(frozen=True, slots=True)
class Change:
    """A replacement of one function of the engine.

    `target` names it, a seam (`engine.base.seam`): `engine.module:function` or
    `engine.module:Class.method`; `make` gets the function and returns the one with the bug.
    """

    target: str
    make: Callable[[Function], Function]

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The engine has the bug; afterwards, whatever happens, it is what it was."""
        module, _, path = self.target.partition(":")
        holder: Any = importlib.import_module(module)
        *classes, name = path.split(".")
        for one in classes:
            holder = getattr(holder, one)
        original = vars(holder)[name]
        setattr(holder, name, self.make(original))
        _in_place.append(self)
        try:
            yield
        finally:
            _in_place.pop()
            setattr(holder, name, original)


_in_place: list[Change] = []


def changes_in_place() -> tuple[Change, ...]:
    """What the engine is changed by at the moment: it does not run programs as usual then."""
    return tuple(_in_place)


@dataclass(frozen=True, eq=False)
class Exhibit:
    """One bug.

    `id` is its number in the literature of this project, or the name of a known defect; `slug`
    tells variants apart; `title` names it, with its CVE number if it has one; `text` says what it
    was; `rule` is the slug of the rule that must catch it.  `correct` is a kernel without the bug,
    `bug` the switches that put it back, `change` the function that does.
    """

    id: str
    slug: str
    title: str
    text: str
    rule: str
    correct: Kernel
    bug: Mapping[str, bool] = field(default_factory=dict)
    change: Change | None = None

    @cached_property
    def name(self) -> str:
        """What commands call it: B-12-old-only."""
        return f"{self.id}-{self.slug}" if self.slug else self.id

    @cached_property
    def file(self) -> str:
        """The name of its case in corpus/museum."""
        return f"{self.name.lower()}.case"

    @cached_property
    def kernel(self) -> Kernel:
        """The kernel with the bug, as far as switches make it."""
        return replace(self.correct, **self.bug)  # type: ignore[arg-type]

    def on(self, geometry: Geometry) -> "Exhibit":
        """The same bug on another geometry."""
        return replace(self, correct=self.correct.on(geometry))

    @property
    def broken(self) -> Rule:
        """The rule that must catch it."""
        return rule_named(self.rule)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While this lasts, programs run on `kernel` meet the bug."""
        with self.change.applied() if self.change else nullcontext():
            yield

    def execute(self, case: Case, kernel: Kernel | None = None, **how: Any) -> Outcome:
        """Run a case with the bug.  Arguments: as of `fuzz.execute.execute`."""
        with self.installed():
            return execute(case, kernel or self.kernel, **how)

"""What a defect is: a bug that the real code has, or has had, and what puts it right.

Bugs of released kernels are settings of `engine.base.kernel`.  Others, of development or of kernels
before 5.0, replace one function of the engine while a program runs.  One that is put back into a
kernel without it is an exhibit of the museum (`fuzz.defects.catalogue`).
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import CodeType
from typing import Any

from engine.base.geometry import Geometry
from engine.base.kernel import Kernel
from fuzz.case import Case
from fuzz.execute import Outcome, execute
from fuzz.rules.index import rule_named
from fuzz.rules.rule import Rule

Function = Any  # a function of any signature, or a property
Settings = Mapping[str, bool]  # values of switches of a kernel


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
        try:
            with self.noted():
                yield
        finally:
            setattr(holder, name, original)

    @contextmanager
    def noted(self) -> Iterator[None]:
        """While this lasts, it is among `changes_in_place`."""
        _in_place.append(self)
        try:
            yield
        finally:
            _in_place.pop()

    @property
    def codes(self) -> tuple[CodeType, ...]:
        """Code of the engine that it brings along, to be covered like the rest."""
        return ()


_in_place: list[Change] = []


def changes_in_place() -> tuple[Change, ...]:
    """What the engine is changed by at the moment: it does not run programs as usual then."""
    return tuple(_in_place)


@dataclass(frozen=True, eq=False)
class Defect:
    """One bug.

    `id` is its number in the literature of this project, or a name; `title` says it in a line,
    `text` what happens, if the title does not, and `crashes` why a kernel may crash of it; `rule`
    is the slug of the rule that must catch it.
    `case` is the path of a case that shows it, below corpus/ and without its ending, on the kernel
    that `shown_on` names.

    A kernel has it whose switches are as `bad` says, and has it no more with those of `repair`; the
    `reason` says why that is right if no release has it so.  Or `change` is the function that has
    the bug.

    An exhibit is put back into `museum`, a kernel without it, with what `also` was otherwise in its
    time; `slug` tells variants of one bug apart.
    """

    id: str
    title: str
    rule: str
    bad: Settings = field(default_factory=dict)
    repair: Settings = field(default_factory=dict)
    reason: str = ""
    cve: str = ""
    text: str = ""
    crashes: str = ""
    case: str = ""
    shown_on: str = ""
    change: Change | None = None
    slug: str = ""
    museum: Kernel | None = None
    also: Settings = field(default_factory=dict)

    @cached_property
    def name(self) -> str:
        """What commands call it: B-12-own-head."""
        return f"{self.id}-{self.slug}" if self.slug else self.id

    @cached_property
    def headline(self) -> str:
        """Its title, with its number in the list of CVEs if it has one."""
        return f"{self.cve}: {self.title}" if self.cve else self.title

    @property
    def broken(self) -> Rule:
        """The rule that must catch it."""
        return rule_named(self.rule)

    def present(self, kernel: Kernel) -> bool:
        """Do the switches of a kernel say that it has it?"""
        return all(getattr(kernel, switch) is value for switch, value in self.bad.items())

    def repaired_on(self, kernel: Kernel) -> Kernel:
        """The kernel with this defect alone put right; its name tells the switches.

        One that has it not stays as it is: a repair may take more than one switch, and is not to
        put right what is wrong for another reason.
        """
        return kernel.having(self.repair) if self.bad and self.present(kernel) else kernel

    # --- In the museum ----------------------------------------------------------------------------

    @cached_property
    def file(self) -> str:
        """The name of its case in corpus/museum."""
        return f"{self.name.lower()}.case"

    @property
    def correct(self) -> Kernel:
        """The kernel without the bug."""
        assert self.museum is not None, f"{self.name} is no exhibit"
        return self.museum

    @cached_property
    def bug(self) -> Settings:
        """The switches that put it back."""
        settings = {**self.bad, **self.also}.items()
        return {switch: bad for switch, bad in settings if getattr(self.correct, switch) is not bad}

    @cached_property
    def kernel(self) -> Kernel:
        """The kernel with the bug, as far as switches make it."""
        return replace(self.correct, **self.bug)  # type: ignore[arg-type]

    def on(self, geometry: Geometry) -> "Defect":
        """The same exhibit on another geometry."""
        return replace(self, museum=self.correct.on(geometry))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """While this lasts, programs run on `kernel` meet the bug."""
        with self.change.applied() if self.change else nullcontext():
            yield

    def execute(self, case: Case, kernel: Kernel | None = None, **how: Any) -> Outcome:
        """Run a case with the bug.  Arguments: as of `fuzz.execute.execute`."""
        with self.installed():
            return execute(case, kernel or self.kernel, **how)

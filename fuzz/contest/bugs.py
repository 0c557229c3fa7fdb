"""The bugs that contestants look for: those of the museum, and mutants of the engine.

A mutant that rules or tests are known to notice is put in place of one function while a program
runs, as a bug of the museum is.  Nobody has thought of it beforehand, so no plan of this fuzzer is
made for it.
"""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import islice
from random import Random
from types import CodeType, FunctionType
from typing import Any

from engine.base.geometry import UnknownName
from engine.base.kernel import kernel_named
from fuzz.campaign import coverage
from fuzz.defects.catalogue import EXHIBITS, exhibit_named
from fuzz.defects.defect import Change, Defect, Function
from fuzz.mutants.__main__ import MODULES, REASONS, ROOT
from fuzz.mutants.mutate import Mutant, mutants_of, source_path
from fuzz.mutants.reasons import load, reason_for

KERNEL = "linux-6.18"  # that mutants are put into
_SAMPLE = 20261128  # the seed of which mutants take part


def _unmade(function: Function) -> Function:
    raise AssertionError("an altered function is changed in place")


@dataclass(frozen=True, slots=True)
class Altered(Change):
    """A function of the engine that is another while this is applied, wherever it is looked up.

    Its code is replaced, so it needs no seam.
    """

    code: CodeType | None = None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """See `Change.applied`."""
        function, code = function_at(self.target), self.code
        assert function is not None and code is not None
        original = function.__code__
        function.__code__ = code
        try:
            with self.noted():
                yield
        finally:
            function.__code__ = original

    @property
    def codes(self) -> tuple[CodeType, ...]:
        """See `Change.codes`."""
        assert self.code is not None
        return (self.code, *coverage.inside(self.code))


def function_at(target: str) -> FunctionType | None:
    """The function of a target, see `Change`; None if a decorator has put something else there."""
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split("."):
        found = vars(found).get(name) if hasattr(found, "__dict__") else None
    return found if isinstance(found, FunctionType) and found.__qualname__ == path else None


def code_in_place(change: Change) -> CodeType:
    """The code of the function that a change puts in."""
    module, _, path = change.target.partition(":")
    with change.applied():
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = vars(found)[name]
        found = getattr(found, "fget", found)  # of a property
        code: CodeType = getattr(found, "__func__", found).__code__
        return code


def museum() -> tuple[str, ...]:
    """The names of all bugs of the museum."""
    return tuple(exhibit.name for exhibit in EXHIBITS)


@cache
def mutants(count: int) -> tuple[str, ...]:
    """The names of some mutants that can be put in, by chance, but always the same ones.

    Those are left out that are known to survive rules and oracle, with a reason for it.
    """
    reasons = load(ROOT / REASONS)
    names = sorted(_mutants())
    Random(_SAMPLE).shuffle(names)
    fit = (
        name
        for name in names
        if reason_for(_mutants()[name], reasons) is None and _altered(_mutants()[name]) is not None
    )
    return tuple(islice(fit, count))


def bug_named(name: str) -> Defect:
    """A bug, by its name.  Errors raised: UnknownName."""
    mutant = _mutants().get(name)
    if mutant is None:
        return exhibit_named(name)
    change = _altered(mutant)
    if change is None:
        raise UnknownName("mutant of one function", name, list(mutants(8)))
    title = f"{mutant.function}: {mutant.was} -> {mutant.now}"
    return Defect(name, title, "", change=change, museum=kernel_named(KERNEL))


@cache
def _mutants() -> dict[str, Mutant]:
    """All mutants of the engine that change a function, by id."""
    found = {}
    for module in MODULES:
        source = source_path(ROOT, module).read_bytes()
        found.update({one.id: one for one in mutants_of(source, module) if one.lines is not None})
    return found


def _altered(mutant: Mutant) -> Altered | None:
    """What puts a mutant in; None if that takes more than the code of one function."""
    target = f"{mutant.module}:{mutant.function}"
    function = function_at(target)
    if function is None:
        return None
    path = source_path(ROOT, mutant.module)
    whole = coverage.compiled(mutant.apply(path.read_bytes()), str(path))
    for code in coverage.inside(whole):
        if (code.co_qualname, code.co_freevars) == (mutant.function, function.__code__.co_freevars):
            return Altered(target, _unmade, code)
    return None

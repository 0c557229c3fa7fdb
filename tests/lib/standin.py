"""A program that stands for a kernel: a model that shows as little as these do."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from engine.base.kernel import kernel_named
from fuzz.case import Call, Case
from fuzz.subjects.coarse import PLACED, chosen, without
from fuzz.subjects.contents import outside
from fuzz.subjects.model import Model
from fuzz.subjects.subject import Abilities, Observation

_PAGE = 4096  # bytes


class StandIn(Model):
    """It chooses addresses outside the arena.

    `merges` false: each page is a VMA of its own; `refuses`, by call, flags with an error, "" for
    the call itself.
    """

    def __init__(
        self,
        kernel: str = "linux-6.18",
        *,
        merges: bool = True,
        refuses: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    ) -> None:
        super().__init__(kernel_named(kernel))
        self.merges = merges
        self.refuses = refuses
        self.emulated = True

    def observe(self, case: Case) -> Observation:
        """See `Subject`."""
        observed = super().observe(case, {"contents": []})
        if "crash" in observed:
            return observed
        results, vmas, contents = observed["ret"], observed["vmas"], observed["contents"]
        results = [self._result(call, done) for call, done in zip(case.calls, results, strict=True)]
        if case.calls and (place := chosen(case.calls[-1], results[-1], _PAGE)):
            results[-1] = PLACED
            vmas = without(vmas, place)
            contents = outside(contents, range(place.start // _PAGE, place.end // _PAGE))
        if not self.merges:
            vmas = [row for vma in vmas for row in _by_page(*vma)]
        return {"ret": results, "vmas": vmas, "contents": contents}

    def _result(self, call: Call, done: object) -> object:
        """What a call returns, which has done what the model says all the same."""
        refused = self.refuses.get(call.name, {})
        without = Abilities(frozenset(), without={call.name: frozenset(refused)})
        names = ["", *without.flags_missing(call)]
        return next((refused[name] for name in names if name in refused), done)


def _by_page(start: int, end: int, protection: str, *of: int) -> Iterator[list[Any]]:
    """A VMA of shared memory, with an object and an offset, or another, a page at a time."""
    for at in range(start, end, _PAGE):
        yield [at, at + _PAGE, protection, *of[:1], *(offset + at - start for offset in of[1:])]

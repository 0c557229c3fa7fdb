"""Several kernels at the price of a few: a program is run on those only that may do it otherwise.

A kernel is its switches, and a program asks for some of them.  All kernels that have these set
alike do the same (`fuzz.noted`), so one run speaks for all of them.  Which these are is known
without looking at each: a set of kernels is a number, of which bit i stands for the i-th kernel,
and those that have a field so are written down once, as such a number, for every field and value.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from engine.base.kernel import Kernel, releases
from fuzz.noted import Noted

KernelSet = int  # of kernels of a matrix: bit i stands for the i-th


class Matrix:
    """Kernels, in the order in which programs are run on them; `all` is the set of all."""

    def __init__(self, kernels: Sequence[Kernel]) -> None:
        self.kernels = tuple(kernels)
        self.all: KernelSet = (1 << len(self.kernels)) - 1
        self._having: dict[str, dict[Any, KernelSet]] = {}
        for field in fields(Kernel):
            having: dict[Any, KernelSet] = {}
            for number, kernel in enumerate(self.kernels):
                value = getattr(kernel, field.name)
                having[value] = having.get(value, 0) | 1 << number
            if len(having) > 1:  # what all have alike tells nobody apart
                self._having[field.name] = having

    def runs(self) -> Iterator[Noted]:
        """The kernels that a program has to be run on, to know what it does on all of them.

        Yields: one after the other; what has been read of it when the next one is asked for says
        which others are left out.
        """
        left = self.all
        while left:
            noted = Noted(self.first(left))
            yield noted
            left &= ~self.having(noted.settings)

    def having(self, settings: Mapping[str, Any]) -> KernelSet:
        """Those that have all fields as one of them has; `settings` are its values."""
        alike = self.all
        for name, value in settings.items():
            if name in self._having:
                alike &= self._having[name][value]
        return alike

    def first(self, some: KernelSet) -> Kernel:
        """The first kernel of a set, which is not empty."""
        return self.kernels[(some & -some).bit_length() - 1]

    def numbers(self, some: KernelSet) -> list[int]:
        """Which kernels are in a set, in order."""
        return [one.bit_length() - 1 for one in singles(some)]

    def members(self, some: KernelSet) -> list[Kernel]:
        """The kernels of a set, in order."""
        return [self.kernels[number] for number in self.numbers(some)]


def in_short(names: Iterable[str]) -> list[str]:
    """Names of kernels for people: of releases side by side, three or more, the first to the last.

    Others come behind, as they are given.
    """
    left, told, run = dict.fromkeys(names), [], list[str]()
    for name in [*(kernel.name for kernel in releases()), ""]:
        if name in left:
            del left[name]
            run.append(name)
            continue
        told += [f"{run[0]} to {run[-1].removeprefix('linux-')}"] if len(run) > 2 else run
        run = []
    return [*told, *left]


def singles(some: KernelSet) -> Iterator[KernelSet]:
    """The sets of one kernel each that make up a set, in order."""
    while some:
        yield some & -some
        some &= some - 1

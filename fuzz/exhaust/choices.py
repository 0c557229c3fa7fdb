"""A generator that chooses, and who chooses for it: everything in turn, or chance.

A generator is a function that is given `choose` and asks it for one of some options, as often as it
likes; what it asks next may depend on what it got.
"""

from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Choose(Protocol):
    """Chooses."""

    def __call__(self, options: Sequence[T], /) -> T:
        """One of the options, of which there is at least one."""


Generator = Callable[[Choose], T]


def every(generator: Generator[T], part: int = 0, of: int = 1) -> Iterator[T]:
    """What comes of all combinations of choices, the first options first.

    Arguments: `part` is one of `of` parts, from 0: every `of`-th option of the first question.
    """
    path: list[int] = []  # which option was chosen, …
    sizes: list[int] = []  # … of how many, at each question so far
    while True:
        asked = 0

        def choose(options: Sequence[Any]) -> Any:
            nonlocal asked
            if asked == len(path):
                path.append(0 if path else part)
                sizes.append(len(options))
            chosen = options[path[asked]]
            asked += 1
            return chosen

        yield generator(choose)
        while path:
            path[-1] += 1 if len(path) > 1 else of
            if path[-1] < sizes[-1]:
                break
            path.pop()
            sizes.pop()
        else:
            return


def by_chance(generator: Generator[T], random: Random) -> T:
    """What comes of choices by chance; each option of a question is as likely as the others."""
    return generator(random.choice)

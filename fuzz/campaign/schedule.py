"""Who fuzzes what: kernels and geometries of a run are shared out among its rounds.

A round gets as few as it can so that together all are under way at any time: those that are not
under way first, and of these the ones that have been quiet longest, so that nothing is left behind.

All kernels in each round would share more runs (`fuzz.matrix`), but a round would get through fewer
programs: with `--kernel all`, two jobs and 60 s of CPU, twice, it were 8,712 and 7,992 in
place of 11,278 and 10,861, which met 37 and 41 known defects in place of 42 and 37.  So that is no
gain, and kernels are dealt out.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple


class Ground(NamedTuple):
    """What a round is about: all of its kernels, and the geometries of its new programs."""

    kernels: tuple[str, ...]
    geometries: tuple[str, ...]


class Schedule:
    """The grounds of a run.

    One is quiet since it has last had news, or since the last round on it has ended.
    """

    def __init__(
        self,
        kernels: Sequence[str],
        geometries: Sequence[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kernels = tuple(kernels)
        self._geometries = tuple(geometries)
        self._clock = clock
        self._under_way: Counter[tuple[str, str]] = Counter()
        self._quiet_since: dict[tuple[str, str], float] = dict.fromkeys(
            product(kernels, geometries), 0.0
        )

    def begin(self, places: int) -> Ground:
        """The ground of a round that begins now; so many `places` there are for rounds."""
        many = -(-len(self._kernels) // places)
        kernels = self._quietest(self._kernels, many, lambda name: self._of(kernel=name))
        # Where kernels are fewer, the rounds of one share its geometries out.
        rounds = max(places // len(self._kernels), 1)
        many = -(-len(self._geometries) // rounds)
        ground = Ground(
            kernels,
            self._quietest(
                self._geometries, many, lambda name: self._of(kernel=kernels[0], geometry=name)
            ),
        )
        self._under_way.update(product(*ground))
        return ground

    def news(self, ground: Ground) -> None:
        """A round there has found something new."""
        self._quiet_since.update(dict.fromkeys(product(*ground), self._clock()))

    def end(self, ground: Ground) -> None:
        """A round there has ended."""
        self._under_way.subtract(product(*ground))
        self.news(ground)

    def _of(self, kernel: str, geometry: str | None = None) -> tuple[int, int, float]:
        """How many rounds are there, and since when it is quiet: what is least comes first."""
        pairs = [pair for pair in self._quiet_since if pair[0] == kernel]
        pairs = [pair for pair in pairs if geometry in (None, pair[1])]
        rounds = [self._under_way[pair] for pair in pairs]
        return min(rounds), sum(rounds), max(self._quiet_since[pair] for pair in pairs)

    @staticmethod
    def _quietest(
        names: Sequence[str], many: int, order: Callable[[str], tuple[int, int, float]]
    ) -> tuple[str, ...]:
        """So many of the names, in the order in which they are given."""
        chosen = sorted(names, key=order)[:many]
        return tuple(name for name in names if name in chosen)

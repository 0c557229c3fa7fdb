"""Programs by chance, one after the other."""

from random import Random
from typing import NoReturn

from fuzz.contest.watch import Watch
from fuzz.contest.writer import Writer


class _Dice:
    """Draws by chance."""

    def __init__(self, seed: int) -> None:
        self.integer = Random(seed).randint


def play(watch: Watch, seed: int) -> NoReturn:
    """Until the trial is over."""
    dice = _Dice(seed)
    while True:
        number = dice.integer(0, len(watch.geometries) - 1)
        watch.run(Writer(dice, watch.geometries[number]).program(), number)

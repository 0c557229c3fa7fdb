"""Bytes by chance, each as likely as any other, and the programs that they stand for.

Nothing here knows calls, ranges or flags.  The byte form (`fuzz.forms.wire`) does: in it most bytes
stand for something likely, and a field for a range that an earlier call has mapped.
"""

from random import Random
from typing import NoReturn

from fuzz.contest.watch import Watch
from fuzz.contest.writer import MOST_CALLS
from fuzz.forms.wire import WIDTH
from fuzz.inputs.inputs import Inputs


def play(watch: Watch, seed: int) -> NoReturn:
    """Until the trial is over."""
    random = Random(seed)
    inputs = Inputs(watch.geometries)
    while True:
        number = random.randrange(len(watch.geometries))
        records = [random.randbytes(WIDTH) for _ in range(random.randint(2, MOST_CALLS))]
        _, case = inputs.decode(inputs.joined(number, records, WIDTH * MOST_CALLS + 1))
        watch.run(case, number)

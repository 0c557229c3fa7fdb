"""This fuzzer's mutator without feedback: of the last programs, any may be the next parent."""

from collections import deque
from random import Random
from typing import NoReturn

from fuzz.contest.watch import Watch
from fuzz.forms import wire
from fuzz.inputs.inputs import Inputs
from fuzz.inputs.mutator import Mutator

_PARENTS = 1000
_MOST_BYTES = wire.WIDTH * wire.MAX_CALLS + 1


def play(watch: Watch, seed: int) -> NoReturn:
    """Until the trial is over."""
    random = Random(seed)
    inputs = Inputs(watch.geometries)
    mutator = Mutator(inputs)
    parents = deque([b""], maxlen=_PARENTS)
    while True:
        data = mutator.mutate(random.choice(parents), _MOST_BYTES, random.getrandbits(32))
        parents.append(data)
        number, case = inputs.decode(data)
        watch.run(case, number)

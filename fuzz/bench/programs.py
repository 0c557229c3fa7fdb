"""The programs that are measured: the project's own, random ones, those of files."""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from random import Random

from engine.base.kernel import Kernel
from fuzz.campaign.seeds import CORPUS, SEEDS
from fuzz.case import Case
from fuzz.forms import text, wire
from fuzz.subjects.check import generated
from fuzz.subjects.host import GEOMETRY, Host
from fuzz.subjects.recordings import is_json_lines
from fuzz.subjects.recordings import programs as recorded


def programs(kernel: Kernel, number: int, seed: int) -> list[bytes]:
    """`number` inputs: the seeds of the project first, then random ones."""
    random = Random(seed)
    inputs = []
    for directory in SEEDS:
        for path in sorted(directory.glob("*.case")):
            inputs.append(wire.encode(text.load(path), kernel.geometry))
    while len(inputs) < number:
        inputs.append(random.randbytes(wire.WIDTH * random.randint(1, wire.MAX_CALLS)))
    return inputs[:number]


def cases_of(files: Sequence[Path], kernel: Kernel, number: int, seed: int) -> list[Case]:
    """The programs of `files`, or `number` random ones; without what no program can do.

    Errors raised: TruthError, CaseError, OSError.
    """
    with Host() as host:
        able = host.able
    if not files:
        loaded = (text.load(path) for path in sorted(CORPUS.rglob("*.case")))
        usable = [case for case in loaded if case.geometry in (None, GEOMETRY)]
        sources = [wire.encode(case, kernel.geometry) for case in usable]
        codec = wire.codec(kernel.geometry, able.calls)
        made = generated([data for data in sources if data], codec, able, seed)
        return list(islice(made, number))
    cases = []
    for path in files:
        if is_json_lines(path):
            cases += [able.runnable(case.program()) for _, case in recorded(path)]
        else:
            cases.append(able.runnable(text.load(path).program()))
    return [case for case in cases if case.calls]

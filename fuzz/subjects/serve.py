"""The model behind the line protocol: a subject as any other program is one."""

import json
import time
from typing import BinaryIO

from engine.base.kernel import Kernel
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.case import Case
from fuzz.subjects import extended
from fuzz.subjects.model import Model
from fuzz.subjects.observe import FIELDS
from fuzz.subjects.protocol import Hello, ProtocolError, decode


def hello(kernel: Kernel) -> Hello:
    """What the model of a kernel says of itself."""
    geometry = kernel.geometry
    return Hello(
        arch="model",
        release=kernel.name.removeprefix("linux-"),
        version=f"model {kernel.name}",
        page_bytes=geometry.page_bytes,
        user_top=geometry.user_top,
        arena=(geometry.arena.start, geometry.arena.end - geometry.arena.start),
        calls=MODELLED_CALLS,
        flags={},
        fields=frozenset((*FIELDS, *extended.OPTIONAL)),
        locks=True,
        root=True,
        levels=geometry.levels,
        keys=geometry.exec_only_keys,
        geometry=geometry.name,
        model=kernel.name,
    )


def serve(kernel: Kernel, source: BinaryIO, sink: BinaryIO) -> None:
    """Answer each line of `source` by one of `sink`, until there is no more.

    Errors raised: BrokenPipeError if nobody listens any more.
    """
    model = Model(kernel)

    def say(text: str) -> None:
        sink.write(text.encode())
        sink.flush()

    say(hello(kernel).line())
    cases = 0
    for line in source:
        say(json.dumps(_answer(model, line.decode(errors="replace").rstrip("\n"))) + "\n")
        cases += 1
    say(json.dumps({"bye": cases}) + "\n")


def _answer(model: Model, line: str) -> dict[str, object]:
    started = time.perf_counter()
    try:
        name, calls = decode(line, model.geometry)
    except ProtocolError as error:
        return {"id": line.partition("\t")[0], "error": str(error)}
    found = model.observe(Case(calls))
    return {"id": name, **found, "us": round((time.perf_counter() - started) * 1e6)}

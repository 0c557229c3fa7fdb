"""Atheris as its manual has it: the bytes of libFuzzer's own mutations become a program."""

from typing import TYPE_CHECKING, NoReturn

import atheris

if TYPE_CHECKING:  # the engine must be covered first
    from fuzz.contest.watch import Watch


def instrumented() -> None:
    """Import the engine with Atheris' instrumentation."""
    with atheris.instrument_imports(include=["engine"]):
        import fuzz.contest.watch
        import fuzz.contest.writer  # noqa: F401


class _Provided:
    """Draws from the bytes of an input."""

    def __init__(self, data: bytes) -> None:
        self.integer = atheris.FuzzedDataProvider(data).ConsumeIntInRange


def play(watch: "Watch", seed: int) -> NoReturn:
    """Until the trial is over."""
    from fuzz.contest.writer import Writer

    def one_input(data: bytes) -> None:
        draw = _Provided(data)
        number = draw.integer(0, len(watch.geometries) - 1)
        watch.run(Writer(draw, watch.geometries[number]).program(), number)

    atheris.Setup(["contest", f"-seed={seed}", "-rss_limit_mb=0", "-timeout=3600"], one_input)
    atheris.Fuzz()
    raise AssertionError("atheris.Fuzz() returned")

"""Atheris as its manual has it: the bytes of libFuzzer's own mutations become a program.

With its default of growing inputs slowly it would find nothing within seconds, so that is off.
"""

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

    flags = [f"-seed={seed}", "-len_control=0", "-max_len=512", "-rss_limit_mb=0", "-timeout=3600"]
    atheris.Setup(["contest", *flags], one_input)
    atheris.Fuzz()
    raise AssertionError("atheris.Fuzz() returned")

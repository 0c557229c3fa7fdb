"""Ctrl-C and SIGTERM, as requests to end that a command heeds in its own time."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def on_request(stop: Callable[[int], None]) -> Iterator[None]:
    """While this lasts, Ctrl-C and SIGTERM call `stop` with the number of the signal."""

    def handle(number: int, _: FrameType | None) -> None:
        stop(number)

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)

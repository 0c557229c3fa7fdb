"""Ctrl-C, SIGTERM and SIGHUP, as requests to end that a command heeds in its own time."""

import contextlib
import os
import signal
import stat
from collections.abc import Callable, Iterator
from types import FrameType


@contextlib.contextmanager
def on_request(stop: Callable[[int], None]) -> Iterator[None]:
    """While this lasts, Ctrl-C, SIGTERM and SIGHUP call `stop` with the number of the signal.

    SIGHUP stays ignored where it is (nohup).  The terminal is gone when it comes: what would be
    printed there goes nowhere, so that whoever says something meanwhile is not ended by that.
    """

    def handle(number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            hush()
        stop(number)

    heeded = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heeded.append(signal.SIGHUP)
    old = {number: signal.signal(number, handle) for number in heeded}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


class Stop(KeyboardInterrupt):
    """A request to end, by the signal of that `number`; what Ctrl-C ends, it ends."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def stopping() -> Iterator[None]:
    """While this lasts, Ctrl-C, SIGTERM and SIGHUP raise Stop where the program is."""

    def stop(number: int) -> None:
        raise Stop(number)

    with on_request(stop):
        yield


def hush() -> None:
    """Let nothing more be printed on terminals.

    One that has hung up is a character device still, but isatty() denies it.
    """
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):  # closed
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)

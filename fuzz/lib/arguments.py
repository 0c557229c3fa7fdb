"""Types of arguments, for argparse."""

from argparse import ArgumentTypeError
from pathlib import Path

MAX_SEED = (1 << 32) - 1
MAX_RUNS = (1 << 31) - 1
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def positive(word: str) -> int:
    """A whole number above zero.  Errors raised: ArgumentTypeError."""
    if not (word.isascii() and word.isdigit() and int(word)):
        raise ArgumentTypeError(f"{word!r} is not a positive whole number")
    return int(word)


def port(word: str) -> int:
    """A port of TCP; 0: any.  Errors raised: ArgumentTypeError."""
    if not (word.isascii() and word.isdigit() and int(word) < 1 << 16):
        raise ArgumentTypeError(f"{word!r} is no port: a number up to {(1 << 16) - 1}")
    return int(word)


def seed(word: str) -> int:
    """A seed of random numbers; libFuzzer's have 32 bits.  Errors raised: ArgumentTypeError."""
    return _at_most(MAX_SEED, word)


def runs(word: str) -> int:
    """A number of executions; libFuzzer's has 31 bits.  Errors raised: ArgumentTypeError."""
    return _at_most(MAX_RUNS, word)


def _at_most(most: int, word: str) -> int:
    number = positive(word)
    if number > most:
        raise ArgumentTypeError(f"{word!r} is too great: at most {most}")
    return number


def directory(word: str) -> Path:
    """A directory, by its name.  Errors raised: ArgumentTypeError."""
    if not word:
        raise ArgumentTypeError("a directory has a name; the one we are in is .")
    return Path(word)


def seconds(word: str) -> int:
    """A time of 60, 90s, 10m, 8h, 2d, in seconds.  Errors raised: ArgumentTypeError."""
    unit = _SECONDS.get(word[-1:])
    number = word[:-1] if unit else word
    if not (number.isascii() and number.isdigit() and int(number)):
        raise ArgumentTypeError(f"{word!r} is not a time: 60, 90s, 10m, 8h, 2d")
    return int(number) * (unit or 1)

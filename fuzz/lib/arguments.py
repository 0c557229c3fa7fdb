"""Types of arguments, for argparse."""

from argparse import ArgumentTypeError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def positive(word: str) -> int:
    """A whole number above zero.  Errors raised: ArgumentTypeError."""
    if not (word.isascii() and word.isdigit() and int(word)):
        raise ArgumentTypeError(f"{word!r} is not a positive whole number")
    return int(word)


def seconds(word: str) -> int:
    """A time of 60, 90s, 10m, 8h, 2d, in seconds.  Errors raised: ArgumentTypeError."""
    unit = _SECONDS.get(word[-1:])
    number = word[:-1] if unit else word
    if not (number.isascii() and number.isdigit() and int(number)):
        raise ArgumentTypeError(f"{word!r} is not a time: 60, 90s, 10m, 8h, 2d")
    return int(number) * (unit or 1)

"""What stands behind the `=` of a call: the result that it must have, perhaps by kernel."""

import re

from engine.base.address import WORD_MASK
from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from fuzz.calls.registry import CALLS
from fuzz.calls.syscall import Returns
from fuzz.case import NEVER, WAITS, ByKernel, Faults, Result
from fuzz.forms.lexical import BLANK, MARGIN, WORD, Wrong, known_name, read_number

PAGE_BYTES = GEOMETRIES["x86-64"].page_bytes  # of a case that names neither kernel nor geometry
FAULTING = tuple(
    name for name, call in CALLS.items() if call.returns is Returns.FAULTS and call.base is None
)

_ERRNO = re.compile(r"-E[A-Z0-9]+")
_RUN = re.compile(r"(SEGV|BUS)\[[ \t]*([^][,() \t]+)[ \t]*,[ \t]*([^][,() \t]+)[ \t]*\)")
_OF_KERNEL = re.compile(r"[ \t]*(linux-[^: \t]+):[ \t]*")


def read_result(text: str, name: str, page_bytes: int) -> Result | ByKernel:
    """What stands behind the `=` of a call of that name; `text` is not empty.

    `0 | linux-6.18: -EPERM` is by kernel: 0, but on linux-6.18.
    """
    if ":" not in text and "|" not in text:
        return _one(text, name, page_bytes)
    otherwise: Result | None = None
    of: dict[str, Result] = {}
    at = 0
    for number, part in enumerate(text.split("|")):
        kernel = _OF_KERNEL.match(part)
        if kernel is None and number:
            raise Wrong("expected KERNEL: RESULT behind '|'", at + len(part) - len(part.lstrip()))
        start = kernel.end() if kernel else 0
        value = part[start:].rstrip(MARGIN)
        if not value:
            raise Wrong("a result is missing here", at + start)
        try:
            result = _one(value, name, page_bytes)
        except Wrong as wrong:
            raise Wrong(wrong.why, at + start + wrong.offset) from None
        if kernel is None:
            otherwise = result
        else:
            known_name(kernel_named, kernel[1], at + kernel.start(1))
            if kernel[1] in of:
                raise Wrong(f"duplicate result of {kernel[1]}", at + kernel.start(1))
            of[kernel[1]] = result
        at += len(part) + 1
    return ByKernel(otherwise, tuple(of.items()))


def is_word(text: str) -> bool:
    """Is it a result that is a word: an error by its name, SKIP, OUT, WAITS or NEVER?"""
    return text in ("SKIP", "OUT", WAITS, NEVER) or _ERRNO.fullmatch(text) is not None


def _one(text: str, name: str, page_bytes: int) -> Result:
    """One result of a call of that name; `text` is not empty."""
    if text[0].isdigit():
        try:
            return read_number(text, 0)
        except Wrong as wrong:
            if wrong.offset:
                found = text[wrong.offset :]
                raise Wrong(f"unexpected {found!r} after the result", wrong.offset) from None
            raise
    word = WORD.match(text)
    assert word is not None
    if is_word(word[0]):
        if word.end() < len(text):
            found = text[word.end() :].lstrip(BLANK)
            raise Wrong(f"unexpected {found!r} after the result", len(text) - len(found))
        return word[0]
    if word[0].startswith(("SEGV", "BUS")):
        return _faults(text, name, page_bytes)
    raise Wrong(
        f"{word[0]!r} is not a result: expected a number, -ERRNO, SKIP, OUT, WAITS, NEVER, "
        "SEGV[…) or BUS[…)",
        0,
    )


def _faults(text: str, name: str, page_bytes: int) -> Faults:
    """The byte ranges of SEGV[start, end) BUS[start, end) as runs of pages."""
    if name not in FAULTING:
        raise Wrong(f"only {' and '.join(FAULTING)} report faults, not {name}", 0)
    runs: dict[str, list[tuple[int, int]]] = {"SEGV": [], "BUS": []}
    at = 0
    while at < len(text):
        match = _RUN.match(text, at)
        if match is None:
            raise Wrong("expected SEGV[START, END) or BUS[START, END)", at)
        bounds = []
        for group in (2, 3):
            try:
                bound = read_number(match[group], 0)
            except Wrong as wrong:
                raise Wrong(wrong.why, match.start(group) + wrong.offset) from None
            if bound % page_bytes:
                raise Wrong(f"{bound:#x} is not a multiple of the page size", match.start(group))
            bounds.append(bound // page_bytes)
        first, end = bounds
        if end <= first:
            raise Wrong("the range is empty", match.start(2))
        kind = match[1]
        if kind == "SEGV" and runs["BUS"]:
            raise Wrong("SEGV ranges come before BUS ranges", match.start())
        if runs[kind] and first <= sum(runs[kind][-1]):
            raise Wrong("ranges go upwards, with a gap between them", match.start(2))
        runs[kind].append((first, end - first))
        at = match.end()
        rest = text[at:].lstrip(BLANK)
        if rest and len(rest) == len(text) - at:
            raise Wrong(f"expected a blank, found {rest[0]!r}", at)
        at = len(text) - len(rest)
    return Faults(tuple(runs["SEGV"]), tuple(runs["BUS"]))


def format_result(result: Result | ByKernel, page_bytes: int = PAGE_BYTES) -> str:
    """What follows the `=`.  Errors raised: ValueError for a value that no call can have."""
    if isinstance(result, ByKernel):
        others = [f"{name}: {format_result(one, page_bytes)}" for name, one in result.of]
        if result.otherwise is not None:
            others.insert(0, format_result(result.otherwise, page_bytes))
        return " | ".join(others)
    if isinstance(result, int):
        if not 0 <= result <= WORD_MASK:
            raise ValueError(f"result {result} is not a 64-bit number")
        return f"{result:#x}" if result else "0"
    if isinstance(result, Faults):
        if not any(result):
            raise ValueError("faults without a range; a call without faults results in 0")
        return " ".join(
            f"{kind}[{first * page_bytes:#x}, {(first + count) * page_bytes:#x})"
            for kind, runs in (("SEGV", result.segv), ("BUS", result.bus))
            for first, count in runs
        )
    if not is_word(result):
        raise ValueError(f"{result!r} is not a result")
    return result

"""The lines of a case that assert something of the state: `@vma`, `@unmapped`, `@page`.

Each holds behind the call above it.  A kernel and a colon behind the first word restrict it to that
kernel.
"""

import re

from engine.base.address import WORD_MASK
from engine.base.kernel import kernel_named
from fuzz.case import Assertion
from fuzz.forms.lexical import WORD, Wrong, known_name, read_number

VMA, UNMAPPED, PAGE = KINDS = ("@vma", "@unmapped", "@page")
NOT = "-"  # before a word: it must not be so
FLAG_WORDS = {  # as show_smap_vma_flags() of 6.18 writes them, and what they say
    "gd": "grows down",
    "um": "userfaultfd: missing pages",
    "uw": "userfaultfd: write protection",
    "ui": "userfaultfd: minor faults",
    "ur": "userfaultfd: read-write protection",
    "lo": "locked",
    "lf": "locked on fault",
    "sr": "sequential reads",
    "rr": "random reads",
    "dc": "not copied by fork",
    "de": "does not expand",
    "ac": "accountable",
    "nr": "no reservation",
    "ht": "hugetlb",
    "wf": "wiped by fork",
    "dd": "not dumped",
    "mm": "pages of a driver",
    "hg": "huge pages wanted",
    "nh": "no huge pages",
    "mg": "mergeable",
    "dp": "droppable",
    "sl": "sealed",
    "sd": "soft-dirty",
}
PAGE_WORDS = {
    "none": "there is no entry",
    "present": "an access needs no fault",
    "swapped": "in swap",
    "guard": "a guard page",
    "huge": "part of a huge page",
    "writable": "its entry allows writing",
    "uffd-wp": "write-protected by a userfaultfd",
    "soft-dirty": "as /proc/PID/pagemap shows it: the entry or all of its VMA is",
}

ASSERTING = re.compile(rf"(?:{'|'.join(KINDS)})(?![^ \t])")
_ACCESS = re.compile(r"[r-][w-][x-][ps]")  # as /proc/PID/maps has it
_CONTENT = re.compile(r"0|[1-9][0-9]*")  # the number of the write
_RANGE = re.compile(r"([^ \t-]+)-([^ \t-]+)")


def read_assertion(line: str, after: int, page_bytes: int) -> Assertion:
    """What a line asserts behind `after` calls.  Errors raised: Wrong."""
    kind, *words = WORD.finditer(line.partition("#")[0])
    kernel = None
    if words and words[0][0].endswith(":"):
        kernel = words[0][0][:-1]
        known_name(kernel_named, kernel, words[0].start())
        words = words[1:]
    usage = _USAGE[kind[0]]
    if not words:
        raise Wrong(f"something is missing: {usage}", kind.start())
    where, *words = words
    start, end = _where(kind[0], where, page_bytes, usage)
    if kind[0] == UNMAPPED and words:
        raise Wrong(f"unexpected {words[0][0]!r}: {usage}", words[0].start())
    if kind[0] != UNMAPPED and not words:
        raise Wrong(f"something is missing: {usage}", kind.start())
    for word in words:
        _check(kind[0], word, first=word is words[0])
    return Assertion(after, kind[0], kernel, start, end, tuple(word[0] for word in words))


def format_assertion(assertion: Assertion) -> str:
    """The line, without its end."""
    where = f"{assertion.start:#x}"
    if assertion.kind != PAGE:
        where += f"-{assertion.end:#x}"
    kernel = () if assertion.kernel is None else (f"{assertion.kernel}:",)
    return " ".join((assertion.kind, *kernel, where, *assertion.words))


_USAGE = {
    VMA: f"{VMA} [KERNEL:] START-END rwxp [FLAG|-FLAG ...]",
    UNMAPPED: f"{UNMAPPED} [KERNEL:] START-END",
    PAGE: f"{PAGE} [KERNEL:] ADDRESS NUMBER|WORD|-WORD ...",
}


def _where(kind: str, word: re.Match[str], page_bytes: int, usage: str) -> tuple[int, int]:
    """Start and end, in bytes of the arena; of a page both are its start."""
    if kind == PAGE:
        start = _address(word[0], word.start(), page_bytes)
        return start, start
    bounds = _RANGE.fullmatch(word[0])
    if bounds is None:
        raise Wrong(f"expected START-END: {usage}", word.start())
    start = _address(bounds[1], word.start(), page_bytes)
    end = _address(bounds[2], word.start() + bounds.start(2), page_bytes)
    if end <= start:
        raise Wrong("the range is empty", word.start())
    return start, end


def _address(text: str, at: int, page_bytes: int) -> int:
    try:
        address = read_number(text, 0, WORD_MASK)
    except Wrong as wrong:
        raise Wrong(wrong.why, at + wrong.offset) from None
    if address % page_bytes:
        raise Wrong(f"{address:#x} is not a multiple of the page size", at)
    return address


def _check(kind: str, word: re.Match[str], *, first: bool) -> None:
    """Refuse a word that does not fit.  Errors raised: Wrong."""
    text = word[0]
    if kind == VMA and first:
        if not _ACCESS.fullmatch(text):
            raise Wrong(
                f"expected the access as in /proc/PID/maps, such as rw-p: {text!r}", word.start()
            )
        return
    if kind == PAGE and _CONTENT.fullmatch(text):
        return
    known = FLAG_WORDS if kind == VMA else PAGE_WORDS
    if text.removeprefix(NOT) not in known:
        raise Wrong(
            f"unknown word {text!r}; known, with '-' for not: {', '.join(known)}", word.start()
        )

"""What an exported program has found of VMAs and pages, behind its calls, as assertions of a case.

It says so in C, by the functions with which it looks (fuzz/export/parts, vmas.c and pages.c):
`page(AT(0x200000)) = present -huge`.
"""

import re
from dataclasses import dataclass, field

from fuzz.case import Assertion
from fuzz.forms.assertions import PAGE, UNMAPPED, VMA, format_assertion, read_assertion
from fuzz.forms.lexical import WORD

_AT = r"AT\((?P<start>0x[0-9a-f]{1,16})\)"
_LINE = re.compile(
    rf"(?P<what>page|content|vma_flags|mapped)\({_AT}(?:, AT\((?P<end>0x[0-9a-f]{{1,16}})\))?\) = "
    r"(?P<found>.+?)(?:, expected .*|: as it should be|: the defect; .*|: neither .*)?"
)
_NUMBER = re.compile(r"\d{1,18}|0x[0-9a-f]{1,16}")
_ROW = re.compile(r"(0x[0-9a-f]{1,16})-(0x[0-9a-f]{1,16}) ([r-][w-][x-][ps])")


@dataclass(slots=True)
class Found:
    """What was found so far."""

    assertions: list[Assertion] = field(default_factory=list)

    def read(self, line: str, after: int) -> None:
        """A line that may tell of it.  Arguments: `after` how many calls there were before."""
        match = _LINE.fullmatch(line)
        if match is None:
            return
        start, found = int(match["start"], 16), match["found"]
        match match["what"]:
            case "page":
                self._add(after, PAGE, start, start, *WORD.findall(found))
            case "content" if _NUMBER.fullmatch(found):
                number = str(int(found, 16 if "x" in found else 10))
                self._more(after, PAGE, start, number)
            case "vma_flags":
                self._more(after, VMA, start, *WORD.findall(found))
            case "mapped" if found == "nothing" and match["end"]:
                self._add(after, UNMAPPED, start, int(match["end"], 16))
            case "mapped":
                for low, high, access in _ROW.findall(found):
                    self._add(after, VMA, int(low, 16), int(high, 16), access)

    def checked(self, page_bytes: int) -> tuple[Assertion, ...]:
        """All of it.  Errors raised: Wrong for what no case can assert."""
        return tuple(
            read_assertion(format_assertion(one), one.after, page_bytes) for one in self.assertions
        )

    def _add(self, after: int, kind: str, start: int, end: int, *words: str) -> None:
        self.assertions.append(Assertion(after, kind, None, start, end, words))

    def _more(self, after: int, kind: str, start: int, *words: str) -> None:
        """More words about the same; a number is the first word of a page."""
        last = self.assertions[-1] if self.assertions else None
        if last is not None and (last.after, last.kind, last.start) == (after, kind, start):
            both = (*words, *last.words) if kind == PAGE else (*last.words, *words)
            self.assertions[-1] = last._replace(words=both)
        elif kind == PAGE:
            self._add(after, kind, start, start, *words)

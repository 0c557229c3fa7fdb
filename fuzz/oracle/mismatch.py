"""Where an implementation and the oracle disagree."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A run of pages where the implementation and the oracle disagree.

    `kind`: "contents" (tags; consecutive inside a run), "mapped" (is there a mapping), "access"
    (may the page be touched), "address" (the result of a call), "refusal" (a call that no kernel
    grants).  `start_page` is a page number in the arena.
    """

    kind: str
    start_page: int
    count: int
    expected: int | str | None
    found: int | str | None

    def told(self, value: int | str | None) -> str:
        """What was expected or found, for people."""
        if isinstance(value, int):
            last = value + self.count - 1
            return f"content {value}" if last == value else f"contents {value} to {last}"
        if value and value.startswith("0x"):
            return f"address {value}"
        return value or ("no content" if self.kind == "contents" else "nothing mapped")

    def __str__(self) -> str:
        pages = f"page {self.start_page:#x}"
        if self.count > 1:
            pages = f"pages {self.start_page:#x}..{self.start_page + self.count - 1:#x}"
        expected, found = self.told(self.expected), self.told(self.found)
        return f"{self.kind}: {pages}: expected {expected}, found {found}"


def differences(expected: Mapping[int, int], found: Mapping[int, int]) -> Iterator[Mismatch]:
    """Where two contents differ, in runs of pages whose tags go up by one on both sides."""
    run: tuple[int, int | None, int | None] | None = None  # first page, its expected and found tag
    end = 0
    for page in sorted({*expected, *found}):
        ours, theirs = expected.get(page), found.get(page)
        if ours == theirs:
            continue
        if run is not None:
            count = page - run[0]
            if end == page and (ours, theirs) == (_plus(run[1], count), _plus(run[2], count)):
                end = page + 1
                continue
            yield Mismatch("contents", run[0], end - run[0], *run[1:])
        run, end = (page, ours, theirs), page + 1
    if run is not None:
        yield Mismatch("contents", run[0], end - run[0], *run[1:])


def _plus(tag: int | None, count: int) -> int | None:
    return None if tag is None else tag + count

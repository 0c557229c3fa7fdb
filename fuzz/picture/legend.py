"""What the signs mean, of those that a picture has."""

from collections.abc import Callable

from fuzz.picture import svg
from fuzz.picture.ribbon import PAD, WIDTH
from fuzz.picture.seen import MIGRATING, SWAPPED
from fuzz.picture.svg import Element

_SAMPLE, _ROW = 30.0, 20.0


def _box(css: str, words: str = "") -> Callable[[Element, float, float], None]:
    """A sample that is a box."""

    def draw(group: Element, x: float, y: float) -> None:
        svg.rect(group, x, y - 11, _SAMPLE, 14, css, 2)
        if css in ("emptied", "plain hatched"):
            svg.path(group, svg.hatch(x, y - 11, _SAMPLE, 14), "hatch")
        if css == "missing":
            svg.path(group, svg.hatch(x, y - 11, _SAMPLE, 14), "hatch bad")
        if words:
            svg.text(group, x + _SAMPLE / 2, y, words, "small", "middle")

    return draw


def _break(group: Element, x: float, y: float) -> None:
    middle = x + _SAMPLE / 2
    svg.line(group, ((x, y - 4), (x + _SAMPLE, y - 4)), "slot")
    svg.line(group, ((middle - 5, y + 1), (middle - 1, y - 9)), "cut")
    svg.line(group, ((middle + 1, y + 1), (middle + 5, y - 9)), "cut")


def _heavy(group: Element, x: float, y: float) -> None:
    svg.line(group, ((x + _SAMPLE / 2, y - 12), (x + _SAMPLE / 2, y + 3)), "pud")


def _cross(group: Element, x: float, y: float) -> None:
    svg.cross(group, x + _SAMPLE / 2, y - 4, 9)


_SIGNS: dict[str, tuple[Callable[[Element, float, float], None], str]] = {
    "failing": (_cross, "where the rule breaks"),
    "content": (_box("page c0", "7"), "a page, and what the program wrote into it"),
    "zeroes": (_box("plain", "0"), "a page of zeroes"),
    "crowd": (_box("plain hatched"), "more than there is room for"),
    "ghost": (_box("ghost"), "where the page was"),
    "missing": (_box("missing"), "a page that should be here"),
    "emptied": (_box("emptied"), "a PTE table without entries, still linked in its PMD entry"),
    SWAPPED: (_box("page c0 away"), "a page in swap"),
    MIGRATING: (_box("page c0 away"), "a page that is being migrated"),
    "pud": (_heavy, "the boundary of a PUD entry"),
    "break": (_break, "drawn shorter than it is"),
}


def legend(root: Element, y: float, used: set[str]) -> float:
    """Draw it, from `y` on.  Returns: where it ends."""
    x, y = PAD, y + 16
    for sign, (sample, words) in _SIGNS.items():
        if sign not in used:
            continue
        wide = _SAMPLE + 8 + svg.width_of(words, 12) + 18
        if x > PAD and x + wide > WIDTH - PAD:
            x, y = PAD, y + _ROW
        sample(root, x, y)
        svg.text(root, x + _SAMPLE + 7, y, words, "small soft")
        x += wide
    return y + 12

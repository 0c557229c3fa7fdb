"""What the signs mean, of those that a picture has."""

from collections.abc import Callable

from fuzz.picture import svg
from fuzz.picture.paper import PAD
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


def _taken(group: Element, x: float, y: float) -> None:
    svg.line(group, ((x, y - 4), (x + _SAMPLE - 9, y - 4)), "bite")
    end = x + _SAMPLE
    svg.line(group, ((end, y - 4), (end - 11, y - 10), (end - 11, y + 2)), "tip")


def _past(group: Element, x: float, y: float) -> None:
    _taken(svg.group(group, "past"), x, y)


def _refused(group: Element, x: float, y: float) -> None:
    end = x + _SAMPLE - 8
    svg.line(group, ((x, y - 4), (end, y - 4)), "bite")
    svg.line(group, ((end, y - 11), (end, y + 3)), "stop")


_SIGNS: dict[str, tuple[Callable[[Element, float, float], None], str]] = {
    "taken": (_taken, "a mover takes entries there"),
    "past": (_past, "an earlier step"),
    "sweep": (_box("sweep"), "the range that it goes for"),
    "refused": (_refused, "refused, or stopped: nothing is moved"),
    "content": (
        _box("page c0", "7"),
        "a page, and what the program wrote into it; what stays together has a colour",
    ),
    "zeroes": (_box("plain", "0"), "a page of zeroes"),
    "crowd": (_box("plain hatched"), "more than there is room for"),
    "ghost": (_box("ghost", "(7)"), "where something was before"),
    "missing": (_box("missing"), "a page that should be here"),
    "emptied": (
        _box("emptied"),
        "a PTE table without entries: until it is unmapped it stays linked",
    ),
    SWAPPED: (_box("page c0 away"), "a page in swap"),
    MIGRATING: (_box("page c0 away"), "a page that is being migrated"),
    "kept": (_box("kept"), "what the TLB of another CPU keeps; the call runs elsewhere"),
    "stale": (_box("stale due"), "stale: the page tables say something else by now"),
    "pud": (_heavy, "the boundary of a PUD entry"),
    "break": (_break, "drawn shorter than it is: nothing is to scale"),
}


def legend(root: Element, y: float, used: set[str], severity: str, width: float) -> float:
    """Draw it, from `y` on, where a rule of some severity breaks.  Returns: where it ends."""
    x, y = PAD, y + 16
    if "failing" in used:
        svg.badge(root, x + _SAMPLE / 2, y - 4, 9, severity)
        words = "where the rule breaks"
        svg.text(root, x + _SAMPLE + 7, y, words, "small soft")
        x += _SAMPLE + 8 + svg.width_of(words, 12) + 18
    for sign, (sample, words) in _SIGNS.items():
        if sign not in used:
            continue
        wide = _SAMPLE + 8 + svg.width_of(words, 12) + 18
        if x > PAD and x + wide > width - PAD:
            x, y = PAD, y + _ROW
        sample(root, x, y)
        svg.text(root, x + _SAMPLE + 7, y, words, "small soft")
        x += wide
    return y + 12

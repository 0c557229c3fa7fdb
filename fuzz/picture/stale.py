"""A stale translation: which page an access through it reaches, and whose that may be.

Nothing stops whoever has a translation: the page may be freed meanwhile, and be somebody else's.
"""

from fuzz.picture import svg
from fuzz.picture.moments import Moment
from fuzz.picture.paper import PAD
from fuzz.picture.scene import Scene
from fuzz.picture.svg import Element
from fuzz.tell.details import Kept

HEIGHT = 44.0  # of the strip
_BOX, _WAY = 52.0, 90.0


def reaching(scene: Scene, index: int) -> Kept | None:
    """What leads to a page at a moment at which nothing may, the first of them; None: nothing."""
    film = scene.film
    if film.failing is None or index < film.failing:
        return None
    violation = film.violation
    stale = [one for one in film.moments[index].seen.tlbs if one.stale]
    ours = [one for one in stale if violation is not None and one.where == violation.where]
    return next(iter(ours), None)


class Consequence:
    """Draws, below the ribbons, what may come of it: the page is freed, and given away."""

    def __init__(self, scene: Scene, index: int, group: Element) -> None:
        self.scene, self.group = scene, group
        self.moment: Moment = scene.film.moments[index]

    def draw(self, one: Kept, y: float) -> None:
        """Draw it, from `y` on."""
        scene, group = self.scene, self.group
        x, middle = scene.paper.left, y + 24
        colour = f"c{scene.colour(one.tag)}" if one.tag else ""
        svg.text(group, PAD, middle + 4, "may follow", "bad strong")
        svg.rect(group, x, middle - 12, _BOX, 24, "kept", 3)
        svg.text(group, x + _BOX / 2, middle + 4.5, f"CPU {one.cpu}", "", "middle")
        start, end = x + _BOX + 2, x + _BOX + _WAY
        svg.line(group, ((start, middle), (end - 10, middle)), "bite bad through")
        tip = ((end, middle), (end - 11, middle - 6), (end - 11, middle + 6))
        svg.line(group, tip, "tip bad")
        does = "still writes" if one.translation.writable else "still reads"
        svg.text(group, (start + end) / 2 - 4, middle - 7, does, "small bad strong", "middle")
        svg.rect(group, end + 3, middle - 12, _BOX, 24, f"page {colour}" if colour else "plain", 2)
        page = f"page {one.tag}" if one.tag else "a page"
        svg.text(group, end + 3 + _BOX / 2, middle + 4.5, page, "", "middle")
        words = ("once it is freed:", "somebody else's memory")
        for number, line in enumerate(words):
            css = "small" if number == 0 else "small strong bad"
            svg.text(group, end + _BOX + 9, middle - 4 + 15 * number, line, css)

"""Elements of SVG, and text that is safe in one.

There are no ids, so many pictures stand on one page; classes are below `svg.pmdfuzz-picture`.
"""

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT_CLASS = "pmdfuzz-picture"
STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
_NAMESPACE = "http://www.w3.org/2000/svg"
# Control and format characters, surrogates, private and unassigned ones, separators of lines.
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"))
# Mean widths of letters, in terms of their size.
_MONO, _SANS, _DIGIT = 0.602, 0.56, 0.64

Element = ET.Element


def clean(text: str, most: int = 400) -> str:
    """Text as it may stand in XML, in one line, and does not reach out of it; cut off if long.

    What neither prints nor is a blank is left out: control characters, those that turn the
    direction of writing, surrogates, noncharacters.
    """
    line = "".join(
        " " if letter in "\t\r\n" else letter
        for letter in text[: 4 * most]
        if letter in "\t\r\n" or unicodedata.category(letter) not in _UNSEEN
    )
    return line if len(line) <= most and len(text) <= 4 * most else f"{line[: most - 1]}…"


def width_of(text: str, size: float, *, mono: bool = False) -> float:
    """About as wide as a text is drawn, rather wider."""
    if mono:
        return len(text) * size * _MONO
    digits = sum(letter.isdigit() for letter in text)
    return size * (digits * _DIGIT + (len(text) - digits) * _SANS)


def wrapped(text: str, width: float, size: float, *, mono: bool = False) -> list[str]:
    """Lines of a text that fit."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and width_of(longer, size, mono=mono) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def picture(
    width: float, title: str, description: str, css: str = "", *, styled: bool
) -> tuple[Element, Element]:
    """The root of a picture, with what is read out in its place, and its sheet, not high yet."""
    root = ET.Element(
        "svg",
        {
            "xmlns": _NAMESPACE,
            "class": f"{ROOT_CLASS} {css}".rstrip(),
            "role": "img",
        },
    )
    ET.SubElement(root, "title").text = clean(title)
    ET.SubElement(root, "desc").text = clean(description, 4000)
    if styled:
        ET.SubElement(root, "style").text = STYLE
    return root, rect(root, 0, 0, width, 0, "bg")


def told(root: Element) -> str:
    """A picture as text."""
    return ET.tostring(root, encoding="unicode", short_empty_elements=True) + "\n"


def number(value: float) -> str:
    """A place, to a tenth."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def group(parent: Element, css: str = "", **data: str) -> Element:
    """A group; `data` are attributes data-NAME."""
    attributes = {"class": css} if css else {}
    attributes |= {f"data-{name}": value for name, value in data.items()}
    return ET.SubElement(parent, "g", attributes)


def place(group_: Element, x: float, y: float) -> None:
    """Put a group somewhere else than it was drawn."""
    group_.set("transform", f"translate({number(x)} {number(y)})")


def rect(
    parent: Element, x: float, y: float, width: float, height: float, css: str, round_: float = 0
) -> Element:
    """A rectangle."""
    made = ET.SubElement(
        parent,
        "rect",
        {
            "x": number(x),
            "y": number(y),
            "width": number(max(width, 0)),
            "height": number(max(height, 0)),
            "class": css,
        },
    )
    if round_:
        made.set("rx", number(round_))
    return made


def path(parent: Element, d: str, css: str) -> Element:
    """A path."""
    return ET.SubElement(parent, "path", {"d": d, "class": css})


def line(parent: Element, points: Iterable[tuple[float, float]], css: str) -> Element:
    """Straight lines from point to point."""
    steps = [f"{number(x)} {number(y)}" for x, y in points]
    return path(parent, "M" + "L".join(steps), css)


def text(
    parent: Element, x: float, y: float, words: str, css: str = "", anchor: str = "start"
) -> Element:
    """A line of text; `anchor` start, middle or end."""
    made = ET.SubElement(parent, "text", {"x": number(x), "y": number(y)})
    classes = " ".join(filter(None, (css, {"middle": "mid", "end": "end"}.get(anchor))))
    if classes:
        made.set("class", classes)
    made.text = clean(words)
    return made


def address(parent: Element, x: float, y: float, words: str, css: str, anchor: str) -> Element:
    """An address: its digits stand in threes, with a thin space; copied, it is what it was."""
    made = text(parent, x, y, "", f"{css} addr".strip(), anchor)
    head, digits = words[: words.index("x") + 1], words[words.index("x") + 1 :]
    first = len(digits) % 3 or 3
    made.text = head + digits[:first]
    for at in range(first, len(digits), 3):
        ET.SubElement(made, "tspan", {"dx": "2.5"}).text = digits[at : at + 3]
    return made


def hatch(x: float, y: float, width: float, height: float, step: float = 6) -> str:
    """Lines that rise from left to right, as a path inside a rectangle."""
    parts = []
    for number_ in range(1, int((width + height) / step) + 1):
        reach = number_ * step
        x1, y1 = x + max(reach - height, 0), y + min(reach, height)
        x2, y2 = x + min(reach, width), y + max(reach - width, 0)
        parts.append(f"M{number(x1)} {number(y1)}L{number(x2)} {number(y2)}")
    return "".join(parts)


def badge(parent: Element, x: float, y: float, radius: float, severity: str = "harm") -> None:
    """The mark of what is wrong: a cross in an octagon, or, if less bad, "!" or "i" in others."""
    if severity == "contract":
        corners = [(0.0, -1.1), (1.15, 0.9), (-1.15, 0.9)]
    elif severity == "course":
        corners = [(0, -1.1), (1.1, 0), (0, 1.1), (-1.1, 0)]
    else:
        near = 0.414
        corners = [
            (-near, -1),
            (near, -1),
            (1, -near),
            (1, near),
            (near, 1),
            (-near, 1),
            (-1, near),
            (-1, -near),
        ]
    made = line(parent, [(x + dx * radius, y + dy * radius) for dx, dy in corners], "badge")
    made.set("d", made.get("d", "") + "Z")
    if severity == "contract":
        stroke = ((-0.5, 0.2), (0.5, 0.55))
    elif severity == "course":
        stroke = ((-0.5, -0.45), (-0.1, 0.5))
    else:
        arm = radius * 0.42
        for slope in (1, -1):
            line(parent, ((x - arm, y - arm * slope), (x + arm, y + arm * slope)), "cross")
        return
    for start, end in stroke:
        line(parent, ((x, y + start * radius), (x, y + end * radius)), "cross")

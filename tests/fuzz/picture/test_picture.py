"""Pictures: what they show, and that nothing in a case can break them."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from engine.base.kernel import kernel_named
from fuzz.defects.catalogue import exhibit_named
from fuzz.forms.text import load, parse
from fuzz.picture.picture import Picture, picture
from fuzz.showing import kernel_to_see
from tests.lib.constants import ROOT

SVG = "{http://www.w3.org/2000/svg}"
ELEMENTS = {"svg", "title", "desc", "style", "g", "rect", "path", "text", "tspan"}
ATTRIBUTES = {"class", "viewBox", "role", "x", "y", "width", "height", "rx", "d", "dx"} | {
    "data-step",
    "data-caption",
}
MOST_BYTES = 300_000
CORPUS = sorted((ROOT / "corpus").glob("*/*.case"))
MOVE = """\
mmap(0x0, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x0, 0x2000)
mremap(0x0, 0x2000, 0x2000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000000)
"""


def drawn(name: str) -> Picture:
    """The picture of a committed case, on the kernel that it breaks a rule on."""
    case = load(ROOT / "corpus" / f"{name}.case")
    return picture(case, kernel_to_see(case))


def of_exhibit(name: str) -> Picture:
    exhibit = exhibit_named(name)
    with exhibit.installed():
        return picture(load(ROOT / "corpus" / "museum" / exhibit.file), exhibit.kernel)


def words(text: str) -> str:
    """All that can be read in a picture."""
    root = ET.fromstring(text)
    return "\n".join("".join(one.itertext()) for one in root.iter(f"{SVG}text"))


def check(text: str) -> ET.Element:
    """It is XML, small, and refers to nothing outside or inside."""
    assert len(text.encode()) < MOST_BYTES
    root = ET.fromstring(text)
    assert root.tag == f"{SVG}svg"
    for element in root.iter():
        assert element.tag.removeprefix(SVG) in ELEMENTS
        assert ATTRIBUTES.issuperset(element.attrib)
    assert "url(" not in text and "@import" not in text and "<!" not in text
    return root


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_every_case_of_the_corpus_is_drawn(path: Path) -> None:
    case = load(path)
    made = picture(case, kernel_to_see(case))
    check(made.still())
    check(made.film())


def test_failing_step_of_the_thread_is_the_refused_bite() -> None:
    made = drawn("regressions/thread-c-overlapping")
    assert made.title == "a destination entry is none when something is stored there"
    step = made.steps[made.failing]
    assert step.failing
    assert step.caption == "move_normal_pmd is refused: the entry at 0x1e00000 is not empty"
    assert sum(one.failing for one in made.steps) == 1
    assert "empty table, still linked" in words(made.still())


def test_film_has_each_step_once_and_shows_the_failing_one() -> None:
    made = drawn("regressions/rollback-loses-a-page")
    groups = [g for g in check(made.film()).iter(f"{SVG}g") if "data-step" in g.attrib]
    assert [g.get("data-step") for g in groups] == [str(n) for n in range(len(made.steps))]
    assert [g.get("data-caption") for g in groups] == [step.caption for step in made.steps]
    assert [g.get("class") for g in groups].count("step now") == 1
    assert groups[made.failing].get("class") == "step now"


def test_a_bug_of_the_museum_is_drawn_as_long_as_it_is_there() -> None:
    assert of_exhibit("B-12-own-head").title == "no entry outside the requested range changes place"
    assert drawn("museum/b-12-own-head").title == "no rule is broken"


def test_a_move_of_two_pages_and_one_of_512_gib() -> None:
    case = parse(MOVE.replace("0x2000", "0x4000000000").replace("touch(0x0, 0x4000000000)", ""))
    for one in (parse(MOVE), case):
        made = picture(one, kernel_named("linux-6.18"))
        check(made.still())
        assert made.failing == len(made.steps) - 1


def test_a_case_without_a_call() -> None:
    check(picture(parse("@expect ok\n"), kernel_named("linux-6.18")).still())


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "</svg><svg onload='x'>",
        "]]>&amp;&#0;\"'",
        "\x00\x08\x1b\x7f\x85\ufffe\uffff\ud800",
        "\u202egnp.\u2066\u200f\u2028\u2029",
        "A" * 65536,
    ],
)
def test_hostile_names_stay_text(name: str) -> None:
    made = picture(parse(MOVE), kernel_named("linux-6.18"), name)
    for text in (made.still(), made.film()):
        check(text)
        assert not set("\x00\x1b\x85\ufffe\u202e\u2066\u200f\u2028\ud800") & set(text)

"""Pictures: what they show, and that nothing in a case can break them."""

import re
from collections.abc import Iterator
from pathlib import Path
from random import Random
from xml.etree import ElementTree as ET

import pytest

from engine.base.kernel import kernel_named
from fuzz.defects.catalogue import exhibit_named
from fuzz.forms.text import load, parse
from fuzz.inputs.scene import scene
from fuzz.picture import meaning
from fuzz.picture.paper import NARROW
from fuzz.picture.picture import Picture, picture
from fuzz.picture.svg import STYLE, width_of
from fuzz.rules.index import BY_SLUG
from fuzz.rules.rule import HARM, Severity
from fuzz.showing import kernel_to_see
from tests.lib.constants import ROOT

SVG = "{http://www.w3.org/2000/svg}"
ELEMENTS = {"svg", "title", "desc", "style", "g", "rect", "path", "text", "tspan"}
ATTRIBUTES = {"class", "viewBox", "role", "x", "y", "width", "height", "rx", "d", "dx"} | {
    "data-step",
    "data-caption",
    "transform",
}
SIZES = {"h1": 18.0, "head": 14.5, "small": 12.0, "addr": 11.5, "code": 12.5}
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
    for part, left, right in parts(root):
        for one in part.iter(f"{SVG}text"):
            start, end = extent(one)
            assert left - 1 <= start and end <= right + 1, "".join(one.itertext())
    return root


def parts(root: ET.Element) -> Iterator[tuple[ET.Element, float, float]]:
    """What is in a picture, and where it has to stay: a panel that was placed has its own place."""
    width = float(root.get("viewBox", "").split()[2])
    for one in root:
        if place := one.get("transform"):
            at = float(place.removeprefix("translate(").split()[0])
            assert 0 <= at <= width - NARROW.width
            yield one, 0, NARROW.width
        else:
            yield one, 0, width


def extent(text: ET.Element) -> tuple[float, float]:
    """From where to where a text is written, about."""
    css = text.get("class", "").split()
    mono = "addr" in css or "code" in css
    size = next((n for name, n in SIZES.items() if name in css), 13.0)
    wide = width_of("".join(text.itertext()), size, mono=mono) * (0.95 if not mono else 1)
    x = float(text.get("x", "0")) - wide * (0.5 if "mid" in css else 1 if "end" in css else 0)
    return x, x + wide


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem)
def test_every_case_of_the_corpus_is_drawn(path: Path) -> None:
    case = load(path)
    made = picture(case, kernel_to_see(case))
    check(made.still())
    check(made.film())
    check(made.sheet())


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["x86-64", "small", "tiny", "i386-pae", "arm64-16k-47"])
def test_random_programs_are_drawn(geometry: str) -> None:
    kernel = kernel_named("linux-6.18", geometry)
    for seed in range(12):
        made = picture(scene(Random(seed), kernel.geometry), kernel)
        check(made.still())
        check(made.film())
        check(made.sheet())


def test_failing_step_of_the_thread_is_the_refused_bite() -> None:
    made = drawn("regressions/thread-c-overlapping")
    assert made.title == "a destination entry is none when something is stored there"
    step = made.steps[made.failing]
    assert step.failing
    assert step.caption == "move_normal_pmd is refused: the entry at 0x1e00000 is not empty"
    assert sum(one.failing for one in made.steps) == 1
    assert "empty table, still linked" in words(made.still())


def test_the_header_says_how_bad_it_is_and_what_it_means() -> None:
    made = drawn("regressions/thread-c-overlapping")
    told = words(made.still())
    assert "CONTRACT: not as promised, but what is in memory is right" in told
    assert "the kernel warns (WARN_ON_ONCE" in told and ": WARN_ON_ONCE" in told
    assert "execve_stack(start=0x1fff000, end=0x2200000, shift=0x200000) = 0" in told
    assert "WARN" in told.split("\n")
    assert f"a known defect of {made.made.kernel.name}: " in told
    told = words(drawn("regressions/rollback-loses-a-page").still())
    assert "HARM: memory, rights or resources are wrong" in told
    assert "what the program wrote at 0x400000 (page 1) is lost" in told


def test_what_a_broken_rule_means_is_said_of_rules_that_there_are() -> None:
    assert set(meaning.MEANS) <= BY_SLUG.keys()
    harmful = {slug for slug, rule in BY_SLUG.items() if rule.severity is HARM}
    assert harmful <= set(meaning.MEANS)
    assert set(meaning.WEIGHT) == set(Severity)


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("regressions/thread-c-overlapping", "contract"),
        ("regressions/rollback-loses-a-page", "harm"),
    ],
)
def test_what_is_harmless_does_not_look_as_harm_does(name: str, severity: str) -> None:
    root = check(drawn(name).still())
    assert root.get("class") == f"pmdfuzz-picture {severity}"
    (badge, *_) = [one for one in root.iter(f"{SVG}path") if one.get("class") == "badge"]
    assert badge.get("d", "").count("L") == {"contract": 2, "harm": 7}[severity]


def test_addresses_that_captions_name_are_on_the_axis() -> None:
    for name in ("regressions/thread-c-overlapping", "regressions/rollback-loses-a-page"):
        made = drawn(name)
        for step in check(made.film()).iter(f"{SVG}g"):
            caption = step.get("data-caption", "")
            labels = [
                "".join(one.itertext())
                for one in step.iter(f"{SVG}text")
                if "addr" in one.get("class", "")
            ]
            assert set(re.findall(r"(?:from|to) (0x[0-9a-f]+)", caption)) <= set(labels)


def test_what_is_refused_does_not_arrive() -> None:
    made = drawn("regressions/thread-c-overlapping")
    for step in check(made.film()).iter(f"{SVG}g"):
        paths = step.findall(f"{SVG}g/{SVG}g/{SVG}path")
        signs = [one.get("class", "").split()[0] for one in paths]
        caption = step.get("data-caption", "")
        if "takes" in caption or "refused" in caption:
            assert ("stop" in signs) is ("refused" in caption)


def test_the_flush_is_due_until_the_locks_are_dropped() -> None:
    made = of_exhibit("B-02-flush-at-end")
    assert made.steps[made.failing].caption == "locks are dropped: others may look"
    told = words(made.still())
    assert "stale: to be flushed before the locks are dropped" in told
    assert "flushed" in told.split("\n") and "frame" not in told


def test_the_unmap_that_loses_a_page_is_a_step_and_sizes_add_up() -> None:
    told = words(drawn("regressions/rollback-loses-a-page").still())
    assert "the new range [0x2000000, 0x2202000) is unmapped, with the pages still in it" in told
    assert "takes 2044 KiB from 0x400000 to 0x2001000 (4 KiB skipped: no table)" in told


def test_film_has_each_step_once_and_shows_the_failing_one() -> None:
    made = drawn("regressions/rollback-loses-a-page")
    groups = [g for g in check(made.film()).iter(f"{SVG}g") if "data-step" in g.attrib]
    assert [g.get("data-step") for g in groups] == [str(n) for n in range(len(made.steps))]
    assert [g.get("data-caption") for g in groups] == [step.caption for step in made.steps]
    assert [g.get("class") for g in groups].count("step now") == 1
    assert groups[made.failing].get("class") == "step now"


def test_a_page_may_have_the_style_once_for_all() -> None:
    made = drawn("regressions/rollback-loses-a-page")
    for styled, bare in (
        (made.still(), made.still(styled=False)),
        (made.film(), made.film(styled=False)),
        (made.sheet(), made.sheet(styled=False)),
    ):
        assert styled.replace(f"<style>{STYLE}</style>", "") == bare
        assert "<style" not in bare


def test_a_bug_of_the_museum_is_drawn_as_long_as_it_is_there() -> None:
    assert of_exhibit("B-12-own-head").title == "no entry outside the requested range changes place"
    assert drawn("museum/b-12-own-head").title == "no rule is broken"


def test_a_move_of_two_pages_and_one_of_512_gib() -> None:
    case = parse(MOVE.replace("0x2000", "0x4000000000").replace("touch(0x0, 0x4000000000)", ""))
    for one in (parse(MOVE), case):
        made = picture(one, kernel_named("linux-6.18"))
        check(made.still())
        assert made.failing == len(made.steps) - 1


def test_what_there_is_no_room_for_is_counted() -> None:
    touched = "".join(f"touch({n * 0x2000:#x}, 0x1000)\n" for n in range(200))
    program = MOVE.replace("0x2000", "0x400000").replace("touch(0x0, 0x400000)\n", touched)
    told = words(picture(parse(program), kernel_named("linux-6.18")).still())
    assert "table, 200 entries" in told
    assert "181" in told.split("\n")


def test_pages_that_stay_together_are_one_run() -> None:
    program = MOVE.replace("0x2000", "0x3fff000").replace("(0x0,", "(0x1000,", 3)
    told = words(picture(parse(program), kernel_named("linux-6.18")).still()).split("\n")
    assert {"1–511", "512–16383", "31 tables", "30 × no table"} <= set(told)


def test_a_page_that_is_lost_is_marked_where_it_belongs() -> None:
    assert "is lost" in words(drawn("regressions/rollback-loses-a-page").still())
    assert "no memory for a table at 0x3ff000; it stops" in words(
        drawn("regressions/rollback-loses-a-page").still()
    )
    told = words(of_exhibit("B-12-own-head").still())
    assert "(page 1) reads as zeroes; where it is now no VMA is" in told
    assert "belongs here: reads as zeroes" in told and "no VMA is here" in told


def test_a_stale_translation_says_what_it_leads_to() -> None:
    told = words(of_exhibit("B-02-flush-at-end").still())
    assert "CPU 0 writes page 1 through 0x0" in told
    assert "stale: CPU 0 still writes page 1 through 0x0" in told


def test_the_arrow_of_a_stale_translation_ends_at_its_page_and_what_may_follow_is_drawn() -> None:
    for name in ("B-02-flush-at-end", "B-28-pending-flush"):
        root = check(of_exhibit(name).still())
        (reach, away) = [
            one.get("d", "")
            for one in root.iter(f"{SVG}path")
            if one.get("class") == "bite bad through"
        ]
        end = float(reach.rpartition("L")[2].split()[0])
        pages = [r for r in root.iter(f"{SVG}rect") if r.get("class", "").startswith("page ")]
        middles = [float(r.get("x", "")) + float(r.get("width", "")) / 2 for r in pages]
        assert any(abs(end - middle) < 1 for middle in middles)
        assert away.startswith("M")
        told = words(of_exhibit(name).still()).split("\n")
        assert {"may follow", "once it is freed:", "somebody else's memory"} <= set(told)
    assert "may follow" not in words(drawn("regressions/rollback-loses-a-page").still())


def test_a_stale_translation_reaches_a_page_on_another_ribbon() -> None:
    program = MOVE.replace("0x2000)\nmremap", "0x2000)\ntouch_on(0, 0x1000)\nmremap")
    exhibit = exhibit_named("B-02-flush-at-end")
    with exhibit.installed():
        root = check(picture(parse(program), exhibit.kernel).still())
    arrows = [one for one in root.iter(f"{SVG}path") if one.get("class") == "bite bad through"]
    (start, end), _ = (one.get("d", "")[1:].split("L") for one in arrows)
    assert float(end.split()[1]) - float(start.split()[1]) > 80  # down to the other one


def test_slot_boundaries_have_their_addresses() -> None:
    for name, all_of_them in (
        ("regressions/rollback-loses-a-page", {"0x400000", "0x600000"}),
        ("regressions/thread-c-overlapping", {"0x1e00000"}),
    ):
        root = check(drawn(name).still())
        for panel in root.findall(f"{SVG}g"):
            labels = {"".join(t.itertext()) for t in panel.iter(f"{SVG}text")}
            if {"old range", "pages"} <= labels:
                assert all_of_them <= labels


def test_a_sheet_has_less_below_each_other_and_no_head() -> None:
    made = drawn("regressions/rollback-loses-a-page")
    still, sheet = (
        [float(one) for one in check(text).get("viewBox", "").split()[2:]]
        for text in (made.still(), made.sheet())
    )
    assert sheet[0] / sheet[1] > 2 * still[0] / still[1]
    told, all_told = words(made.sheet()), words(made.still())
    assert "HARM" not in told and "HARM" in all_told
    assert all_told.split("\n").count("old range") == 6
    assert told.split("\n").count("old range") == 4


def test_realignment_over_what_others_have_says_so() -> None:
    told = words(of_exhibit("B-12-old-head-only").still())
    assert "onto another VMA" in told and ": taken as well" in told
    told = words(of_exhibit("B-12-own-head").still())
    assert (
        "realigned to the slot boundary, not asked for" in told and "onto another VMA" not in told
    )


def test_a_counter_that_is_wrong_is_shown_alone() -> None:
    told = words(drawn("museum/b-37-rollback-leaks").still())
    assert "Committed_AS" in told and "VmSize" not in told


def test_bites_that_are_alike_share_a_step() -> None:
    program = MOVE.replace("0x2000", "0x4000000")
    made = picture(parse(program), kernel_named("linux-6.18"))
    assert [one.caption for one in made.steps if one.kind == "pmd-moved"] == [
        "move_normal_pmd takes 2 MiB from 0x0 to 0x40000000",
        "move_normal_pmd 31 more times takes 62 MiB from 0x200000 to 0x40200000",
    ]


def test_of_very_many_moments_some_are_left_out() -> None:
    lines = [
        f"mmap({n * 0x2000:#x}, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)"
        f"\ntouch({n * 0x2000:#x}, 0x1000)"
        for n in range(100)
    ]
    lines.append("mremap(0x0, 0xc8000, 0xc8000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000000)\n")
    made = picture(parse("\n".join(lines)), kernel_named("linux-6.18"))
    assert 10 < len(made.steps) < 40
    assert made.steps[-1].caption.endswith("the call returns 0x40000000")
    check(made.film())


def test_locks_are_told_as_they_are_held() -> None:
    told = words(drawn("regressions/thread-c-overlapping").still()).split("\n")
    assert "execve_stack holds: mmap (write), page tables" in told
    assert "execve_stack holds: mmap (write)" in told


def test_a_call_that_moves_nothing_is_drawn_before_and_after() -> None:
    program = MOVE.rpartition("mremap")[0] + "mprotect(0x0, 0x1000, PROT_READ)\n"
    made = picture(parse(program), kernel_named("linux-6.18"))
    assert [step.kind for step in made.steps] == ["before", "end"]
    assert "r--p" in words(made.still())


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
    for text in (made.still(), made.film(), made.sheet()):
        check(text)
        assert not set("\x00\x1b\x85\ufffe\u202e\u2066\u200f\u2028\ud800") & set(text)


def test_what_others_do_in_between_is_a_step() -> None:
    case = load(ROOT / "corpus/museum/b-05-stale-tlb.case")
    made = picture(case, kernel_named("linux-5.0"))
    told = [step.caption for step in made.steps if step.kind == "acted"]
    assert told == [
        "the migration of page 1 begins: it has found the table of 0x0, and is to lock that next",
        "CPU 0 writes to 0x200000",
        "the migration locks that table and changes its entry, by now at 0x200000, but flushes 0x0",
    ]


def test_all_that_others_do_is_in_the_still_and_where_the_locks_are_missing() -> None:
    told = words(of_exhibit("B-05-stale-tlb").still())
    assert told.count("migration") == 2 and "CPU 0 writes to 0x200000" in told
    assert "mremap holds: mmap (write), page tables; no rmap lock" in told

"""Pages in a real browser: headless Chromium, driven by Playwright.

Skipped where one of them is not installed.  Whatever is opened, nothing may be said on the console,
and nothing asked for but the pages themselves.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import parse
from fuzz.report.make import make
from fuzz.report.pages import slug, visible
from tests.lib.workdirs import HOSTILE, KNOWN, STACK, UNKNOWN, hostile, regression, stock, write_raw

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium"),
]

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTHS = (400, 1280, 4000)
OWN = Bucket("dest-entry-none", "execve_stack")
LONG = Bucket("rollback-complete", "mremap", "rollback-short")
RAW = "<script>document.title = 'run'<"
LINES = "a\n<b>\u202e\udcff \"'&lt;.case"  # what a file may be called, if it is not by us
SHOWN = "#table tbody tr:not(.group):not([hidden]) a"
Open = Callable[..., Any]


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report as `pages/`, and as `all.html`."""
    folder = tmp_path_factory.mktemp("reports")
    b_12 = regression("museum/b-12-old-head-only")
    cases = {KNOWN: hostile(STACK), UNKNOWN: b_12, OWN: STACK, LONG: long()}
    stock(folder / "work", cases, minutes=45)
    write_raw(folder / "work", RAW, STACK)
    write_raw(folder / "work", LINES, STACK)
    make(folder / "work", folder / "pages")
    make(folder / "work", folder / "all.html")
    return folder


def long() -> Case:
    """A program that takes more than a sheet."""
    case = regression("regressions/rollback-loses-a-page")
    line = "mmap({:#x}, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    more = parse("".join(line.format(0x10000000 + n * 0x2000) for n in range(100))).calls
    return replace(case.with_calls([*more, *case.calls]), kernel="linux-7.3")


@pytest.fixture(scope="module")
def chromium(reports: Path) -> Iterator[Any]:
    """The browser; begun once all reports are made, as that forks."""
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Any, reports: Path) -> Iterator[Open]:
    """Opens a page of the reports, in a window of its own."""
    said: list[str] = []
    contexts = []

    def open_(path: str, **how: Any) -> Any:
        contexts.append(chromium.new_context(**how))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        own = (reports.as_uri(), "data:")
        page.on("request", lambda one: one.url.startswith(own) or said.append(one.url))
        page.goto(f"{reports.as_uri()}/{path}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert said == []


def finding(name: str) -> str:
    return f"pages/findings/{slug(name)}.html"


def sizes(texts: Any) -> list[float]:
    """How high letters of texts in pictures are on the screen, in pixels."""
    found: list[float] = texts.evaluate_all(
        """texts => texts.map((one) => parseFloat(getComputedStyle(one).fontSize) *
             one.ownerSVGElement.getScreenCTM().a)"""
    )
    return found


def shown(page: Any) -> list[str]:
    """The findings that the table shows."""
    names: list[str] = page.locator(SHOWN).all_inner_texts()
    return names


def test_filters(open_page: Open) -> None:
    page = open_page("pages/index.html")
    assert len(shown(page)) == 6
    page.keyboard.press("/")
    page.keyboard.type("OTHERS mremap")
    assert shown(page) == [UNKNOWN.name]
    assert page.locator("#shown").inner_text() == "1 of 6 findings"
    page.reload()
    assert shown(page) == [UNKNOWN.name]
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("severity").select_option("contract")
    assert shown(page) == [OWN.name, KNOWN.name]
    page.get_by_label("text").fill("nothing is called so")
    assert shown(page) == []
    assert page.get_by_text("No finding is left").is_visible()
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("kernel").select_option(label="5.0")
    assert KNOWN.name in shown(page)


@pytest.mark.parametrize(
    ("fragment", "left"),
    [
        ("text=<img src=x onerror=alert(1)>", 0),
        ("text=%3Cscript%3E&severity=other", 1),
        ("kernel=%22%5D&state=nonsense&rule=__proto__", 6),
        ("constructor=1&__proto__=2&text", 6),
        ("%ff%fe&&=&=x&%", 6),
        ("finding=%22%5D%2C*&text=mremap", 2),
        ("text=" + "a" * 60_000, 0),
    ],
)
def test_the_address_may_ask_for_anything(open_page: Open, fragment: str, left: int) -> None:
    page = open_page(f"pages/index.html#{fragment}")
    assert len(shown(page)) == left
    assert page.title().startswith("pmdfuzz")
    chosen = page.locator("#filters select").evaluate_all(
        "all => all.map(one => one.selectedIndex)"
    )
    assert len(chosen) == 4 and min(chosen) >= 0


def test_filters_of_another_address_are_taken_over(open_page: Open) -> None:
    page = open_page("pages/index.html#text=mremap&severity=harm")
    page.evaluate("location.hash = 'severity=contract'")
    page.wait_for_timeout(100)
    assert page.get_by_label("text").input_value() == ""
    assert set(shown(page)) == {OWN.name, KNOWN.name}
    page.evaluate("location.hash = 'main'")
    page.wait_for_timeout(100)
    assert page.get_by_label("severity").input_value() == "contract"


def test_sorting(open_page: Open) -> None:
    page = open_page("pages/index.html")
    head = page.locator("#table th", has=page.get_by_role("button", name="finding"))
    head.get_by_role("button").press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    unknown = page.locator("#unknown a")
    first = unknown.all_inner_texts()
    assert first == sorted(first)
    head.get_by_role("button").press("Enter")
    assert unknown.all_inner_texts() == first[::-1]


def test_a_picture_is_stepped_through_by_keyboard(open_page: Open) -> None:
    page = open_page(finding(UNKNOWN.name))
    slider = page.get_by_role("slider")
    step = page.locator(".leafed .step.now")
    seen = set()
    slider.press("Home")
    assert page.get_by_role("button", name="one step back").is_disabled()
    for number in range(int(slider.get_attribute("max")) + 1):
        assert step.get_attribute("data-step") == str(number)
        told = page.locator(".steps output").inner_text()
        assert told == slider.get_attribute("aria-valuetext")
        seen.add(told)
        slider.press("ArrowRight")
    assert len(seen) == int(slider.get_attribute("max")) + 1 > 3
    assert page.get_by_role("button", name="one step on").is_disabled()
    page.get_by_role("button", name="one step back").press("Enter")
    assert step.get_attribute("data-step") == str(len(seen) - 2)
    assert page.locator(".still").is_hidden()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_into_any_window(open_page: Open, width: int, scheme: str) -> None:
    for path in ("pages/index.html", finding(KNOWN.name)):
        window = {"width": width, "height": 800}
        page = open_page(path, viewport=window, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        lightness = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        assert (sum(lightness) > 3 * 128) is (scheme == "light")


@pytest.mark.parametrize("script", [True, False])
def test_pictures_are_legible_on_a_telephone(open_page: Open, script: bool) -> None:
    for name in (KNOWN.name, UNKNOWN.name):
        window = {"width": 400, "height": 800}
        page = open_page(finding(name), viewport=window, java_script_enabled=script)
        shown = page.locator(".leafed .step.now text" if script else ".still text")
        assert min(sizes(shown)) >= 11
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


@pytest.mark.parametrize("width", (400, 700, 1000, 1280, 2000, 4000))
def test_charts_and_releases_are_legible(open_page: Open, width: int) -> None:
    page = open_page("pages/index.html", viewport={"width": width, "height": 800})
    for what in (".chart text", ".strip.labels:visible text"):
        assert min(sizes(page.locator(what))) >= 10.5
    scale, head = page.locator(".scale"), page.locator("#table thead .labels")
    assert scale.is_visible() is (width < 768)
    labels = (scale.locator("svg") if width < 768 else head).bounding_box()
    strip = page.locator("td.kernels svg").first.bounding_box()
    assert abs(labels["x"] - strip["x"]) < 1 and abs(labels["width"] - strip["width"]) < 1


def test_what_is_wrong_is_in_the_window(open_page: Open) -> None:
    page = open_page(finding(KNOWN.name), viewport={"width": 400, "height": 800})
    mark = page.locator(".leafed .step.now .ring").bounding_box()
    middle = mark["x"] + mark["width"] / 2
    assert 100 < middle < 300
    page.get_by_role("slider").press("Home")
    assert page.locator(".leafed .wide").evaluate("one => one.scrollLeft") >= 0


def test_what_is_hostile_is_seen_as_text(open_page: Open) -> None:
    page = open_page(finding(KNOWN.name))
    assert page.title() == KNOWN.name
    said = page.locator(".comment").all_text_contents()
    assert said == [visible(comment) for comment in HOSTILE]
    page = open_page(finding(RAW))
    assert page.title() == RAW
    assert page.get_by_role("heading", level=1).inner_text() == RAW
    page = open_page(finding(LINES))
    heading = page.get_by_role("heading", level=1).text_content()
    assert heading == visible(LINES) and "\u202e" not in heading


def test_the_keyboard_reaches_the_content(open_page: Open) -> None:
    page = open_page("pages/index.html")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert skip.evaluate("one => one === document.activeElement && one.offsetLeft >= 0")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('main').contains(document.activeElement)")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_without_a_script(open_page: Open) -> None:
    page = open_page("pages/index.html", java_script_enabled=False)
    assert len(shown(page)) == 6
    assert page.locator("#filters").is_hidden()
    page = open_page(finding(UNKNOWN.name), java_script_enabled=False)
    assert page.locator(".still svg").is_visible()
    assert page.locator(".leafed").is_hidden()


def test_one_file_holds_all(open_page: Open) -> None:
    page = open_page("all.html")
    page.get_by_role("link", name=KNOWN.name).click()
    heading = page.get_by_role("heading", level=1, name=KNOWN.name)
    heading.wait_for()
    assert page.locator("#one .comment").all_text_contents() == [visible(one) for one in HOSTILE]
    page.get_by_role("slider").press("Home")
    assert page.locator(".leafed .step.now").get_attribute("data-step") == "0"
    page.go_back()
    heading.wait_for(state="hidden")
    assert len(shown(page)) == 6


@pytest.mark.parametrize("name", [UNKNOWN.name, OWN.name])
def test_a_finding_is_printed_on_one_sheet(open_page: Open, name: str) -> None:
    page = open_page(finding(name))
    sheets = re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))
    assert len(sheets) == 1


def test_on_paper_nothing_is_cut_off(open_page: Open) -> None:
    for path in ("pages/index.html", finding(KNOWN.name), finding(LONG.name)):
        page = open_page(path, viewport={"width": 710, "height": 1000})  # of A4, but for margins
        page.emulate_media(media="print")
        beyond = page.locator("body *").evaluate_all(
            "all => all.filter((one) => one.getBoundingClientRect().right > 711).length"
        )
        assert beyond == 0


def test_a_long_program_is_printed_in_two_columns_on_several_sheets(open_page: Open) -> None:
    page = open_page(finding(LONG.name))
    sheets = re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))
    assert 1 < len(sheets) < 4
    page.emulate_media(media="print")
    lines = [one.bounding_box() for one in page.locator(".calls li").all()]
    assert len({round(line["x"]) for line in lines}) == 2
    below = page.locator(".violations").bounding_box()
    assert max(line["y"] + line["height"] for line in lines) <= below["y"]


def test_charts_are_not_cut_off(open_page: Open) -> None:
    page = open_page("pages/index.html")
    for chart in page.locator(".chart svg").all():
        right = chart.bounding_box()["x"] + chart.bounding_box()["width"]
        for text in chart.locator("text").all():
            assert text.bounding_box()["x"] + text.bounding_box()["width"] <= right + 0.5

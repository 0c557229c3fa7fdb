"""How soon a report can be used, in a real browser: `python -m fuzz.bench report --findings 2000`.

The working directory is made up of committed cases, each under many names, met by runs of some
days; its report is what `pmdfuzz report` writes.  The browser opens it from the disk, in a new
window each time.  It takes `pmdfuzz[browser]` and a Chromium.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import count, cycle, islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from engine.base.kernel import releases
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.campaign.seeds import CORPUS
from fuzz.case import Case
from fuzz.defects.known import DEFECTS
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import CaseStore, load_all
from fuzz.findings.history import About, Standing
from fuzz.findings.ledger import Ledger
from fuzz.lib.exits import BAD_INPUT, FINE
from fuzz.lib.lines import columns
from fuzz.report.directory import Directory
from fuzz.report.studies import Made, Studies, Subject, made_of
from fuzz.report.write import write
from fuzz.rules.index import BY_SLUG

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_BEGAN = 1.8e9  # seconds since 1970
_DAYS = 3
_RUNS = 12
_RELEASES = tuple(kernel.name for kernel in releases())
NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
# What the page says of itself, in ms since it was asked for, once it stands still: what was first
# painted, when it was loaded, when that was on the screen, how long a filter takes to be on it.
_MEASURE = """async () => {
  const shown = await window.shown;
  const framed = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const loaded = performance.getEntriesByType("navigation")[0].loadEventEnd;
  const painted = await new Promise((done) => new PerformanceObserver((list) =>
    list.getEntriesByName("first-contentful-paint").forEach((one) => done(one.startTime)))
      .observe({type: "paint", buffered: true}));
  const [row, field] = ["#table tbody tr:not(.group)", "#filters [name=text]"]
    .map((one) => document.querySelector(one));
  const began = performance.now();
  let filtered = began;
  if (field) {
    if (!row.checkVisibility() || !field.checkVisibility()) throw new Error("nothing is seen");
    field.value = "mremap b";
    field.dispatchEvent(new Event("input", {bubbles: true}));
    await framed();
    filtered = performance.now();
    if (!document.querySelector("#shown").textContent) throw new Error("nothing is filtered");
  }
  const elements = document.getElementsByTagName("*").length;
  return [painted, loaded, shown, filtered - began, elements];
}"""
# When the load event is over and a frame with what it left has been made.
_SHOWN = """window.shown = new Promise((done) => addEventListener("load", () => setTimeout(() =>
  requestAnimationFrame(() => setTimeout(() => done(performance.now()))))));"""


class Opened(NamedTuple):
    """One time that a page was opened: ms until then, but for `filtered`; and how large it is."""

    painted: float
    loaded: float
    shown: float
    filtered: float
    elements: int


def add_report(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The options of `report`."""
    sub = commands.add_parser("report", help="how soon a report of many findings can be used")
    sub.set_defaults(command=report)
    sub.add_argument("--findings", type=int, default=2000, help="default: %(default)s")
    sub.add_argument("--repeat", type=int, default=7, help="windows of each (%(default)s)")
    sub.add_argument("--workdir", type=Path, help="to keep, or kept (default: a temporary one)")


def report(options: argparse.Namespace) -> int:
    """Make the working directory and its reports, open them, and print how long that took."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        print(f"fuzz.bench report: {error}; install pmdfuzz[browser]", file=sys.stderr)
        return BAD_INPUT
    chromium = next(filter(None, map(shutil.which, NAMES)), None)
    if chromium is None:
        print(f"fuzz.bench report: none of {', '.join(NAMES)} is installed", file=sys.stderr)
        return BAD_INPUT
    place: AbstractContextManager[Path | str] = (
        nullcontext(options.workdir) if options.workdir else tempfile.TemporaryDirectory()
    )
    with place as workdir:
        pages = pages_of(Path(workdir), options.findings)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
            print(f"{options.findings} findings, Chromium {browser.version}")
            print(f"ms, median of {options.repeat} (least to most)\n")
            rows: list[tuple[str, ...]] = [
                ("", "size", "elements", "first paint", "load event", "on screen", "a filter")
            ]
            for what, page in pages.items():
                rows.append((what, *told(page, opened(browser, page, options.repeat))))
            print("\n".join(columns(rows)))
            browser.close()
    return FINE


def pages_of(workdir: Path, findings: int) -> dict[str, Path]:
    """The pages to be opened, by what they are; made if they are not there."""
    pages, single = workdir / "pages", workdir / "report.html"
    if not single.exists():
        studies = stock(workdir, findings)
        directory = Directory.read(workdir)
        write(directory, studies, pages)
        write(directory, studies, single)
    largest = max((pages / "findings").iterdir(), key=lambda page: page.stat().st_size)
    return {"index": pages / "index.html", "largest finding": largest, "one file": single}


def stock(workdir: Path, findings: int) -> Studies:
    """Fill a working directory.  Returns: the studies of its cases."""
    studies, store = Studies(workdir), CaseStore(workdir)
    clock = _Clock()
    cases = cycle([(case, made_of(Subject("", case))) for case in _cases()])
    with Ledger.open(workdir, clock) as ledger:
        for run in range(_RUNS):
            about = About(f"run {run}", _RELEASES, ("x86-64",), "benchmark")
            ledger.history.begin(about)
            for minute in range(_DAYS * 24 * 60 // _RUNS):
                clock.now += 60
                done = 60.0 * minute
                standing = Standing(done, int(done * 900), 900.0, 100 * run + minute, 40 * minute)
                ledger.history.tell(standing, now=True)
            ledger.history.end(0)
        for number, (bucket, (case, made)) in enumerate(
            islice(zip(_buckets(), cases, strict=False), findings)
        ):
            clock.now = _BEGAN + number * _DAYS * 86400 / findings
            store.save(bucket, case)
            for kernel in _RELEASES[number % 7 :: 9 + number % 11]:
                ledger.record(
                    bucket, kernel, run_id=f"run {number % _RUNS}", executions=number, count=3
                )
            studies.keep(Subject(bucket.name, case), _renamed(made, bucket.name))
    return studies


def _cases() -> Iterator[Case]:
    """Committed ones, which have all that real ones have."""
    for folder in ("regressions", "museum"):
        yield from islice(load_all(CORPUS / folder).cases.values(), 0, None, 4)


def _buckets() -> Iterator[Bucket]:
    """As many as anybody asks for, each rule and each call among the first; every third known."""
    ids, calls, rules = cycle(DEFECTS), cycle(sorted(MODELLED_CALLS)), cycle(BY_SLUG)
    seen = set()
    for number in count():
        known = (next(ids),) if number % 3 == 0 else ()
        bucket = Bucket.of(next(rules), next(calls), *known)
        if bucket in seen:
            next(calls)
            continue
        seen.add(bucket)
        yield bucket


def _renamed(made: Made, name: str) -> Made:
    """The same, as if what the case shows was called so."""
    groups = tuple(
        replace(group, findings=(name, *group.findings[1:]) if group.findings else ())
        for group in made.study.groups
    )
    return made._replace(study=replace(made.study, groups=groups))


class _Clock:
    """Time as it is said."""

    now = _BEGAN

    def __call__(self) -> float:
        return self.now


def opened(browser: "Browser", path: Path, times: int) -> list[Opened]:
    """Open a page in a new window so many times; once before, so that its file is in memory."""
    found = []
    for _ in range(times + 1):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        page = context.new_page()
        page.add_init_script(_SHOWN)
        page.goto(path.resolve().as_uri())
        found.append(Opened(*page.evaluate(_MEASURE)))
        context.close()
    return found[1:]


def told(page: Path, found: list[Opened]) -> tuple[str, ...]:
    """The cells of a row."""

    def ms(of: Callable[[Opened], float]) -> str:
        values = [of(one) for one in found]
        return f"{median(values):.0f} ({min(values):.0f} to {max(values):.0f})"

    return (
        f"{page.stat().st_size / 1e6:.2f} MB",
        f"{found[0].elements:,}",
        ms(lambda one: one.painted),
        ms(lambda one: one.loaded),
        ms(lambda one: one.shown),
        ms(lambda one: one.filtered),
    )

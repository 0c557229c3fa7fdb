"""Pages are HTML in which everything that cases, names and ledgers say is text."""

import base64
import html
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fuzz.findings.ledger import Ledger
from fuzz.findings.states import ACCEPTED
from fuzz.report.directory import Directory
from fuzz.report.pages import Pages, policy, slug, visible
from fuzz.report.studies import Studies
from tests.lib.workdirs import HOSTILE, KNOWN, STACK, UNKNOWN, hostile, stock, write_raw

VOID = {"meta", "link", "input", "br", "img", "path", "rect", "circle", "use"}


class Elements(HTMLParser):
    """The elements and attributes of a page, and the text that is to be seen."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag in ("td", "th", "dd"):
            self.text += " "
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] != ["style"] and self.open[-1:] != ["script"]:
            self.text += data


def pages(workdir: Path, *, single: bool = False) -> Pages:
    directory, studies = Directory.read(workdir), Studies(workdir)
    assert studies.make(directory.subjects, 1) == len(directory.subjects)
    return Pages(directory, studies, single=single)


def test_what_is_hostile_stays_text(tmp_path: Path) -> None:
    stock(tmp_path, {KNOWN: hostile(STACK)})
    write_raw(tmp_path, "<script>alert(1)<", STACK)
    with Ledger.open(tmp_path) as ledger:
        ledger.states.change(KNOWN, ACCEPTED, "<b onclick='x'>why</b>")
        ledger.record(
            KNOWN, "<i>kernel</i>", run_id="<u>run</u>", executions=1, machine="<i>Linux\u202e</i>"
        )
    made = pages(tmp_path)
    everything = [made.index(), *map(made.finding, made.by_slug.values())]
    for page in everything:
        found = Elements(page)
        assert not found.open
        assert found.names.count("script") == 1
        assert not {"img", "b onclick", "i", "u"} & set(found.names)
        assert not [name for name in found.attributes if name.startswith("on")]
        assert not re.search("[\x00-\x08\x0b-\x1f\u200b-\u200f\u202a-\u202e\u2066-\u2069]", page)
    shown = Elements(made.finding(made.by_slug[KNOWN.name])).text
    for comment in HOSTILE:
        assert visible(comment).strip() in shown
    assert "<b onclick='x'>why</b>" in shown
    assert "<i>Linux⌈U+202E⌉</i> (1 time)" in shown
    assert "⌈U+202E⌉gnp.exe" in shown


def test_only_our_style_and_script_may_run() -> None:
    rules = dict(rule.strip().partition(" ")[::2] for rule in policy().split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["img-src"] == "data:"
    assert all(one.startswith("'sha256-") for one in rules["script-src"].split())
    assert all(one.startswith("'sha256-") for one in rules["style-src"].split())


def test_a_page_says_what_broke_and_why_that_matters(tmp_path: Path) -> None:
    made = pages(stock(tmp_path, {KNOWN: STACK}))
    text = " ".join(Elements(made.finding(made.by_slug[KNOWN.name])).text.split())
    for words in (
        "I-01 dest-entry-none: a destination entry is none",
        "contract: A result, an error",
        "B-01: the stack's move meets the table",
        "Releases that have it: until 6.6.",
        "execve_stack(0x300000, 0x700000, 0x200000) = 0 breaks",
        "found an emptied PTE table in the PMD entry",
        "5.0 to 6.6 dest-entry-none--execve_stack--B-01",
        "6.7 to 7.3 ok",
        "linux-6.1 3",
        f"replay {tmp_path}",
    ):
        assert words in text


def test_the_index_has_known_defects_apart(tmp_path: Path) -> None:
    page = pages(stock(tmp_path, {KNOWN: STACK, UNKNOWN: STACK}, minutes=3)).index()
    unknown, known = page.index('<tbody id="unknown"'), page.index('<tbody id="known"')
    assert unknown < page.index(f">{UNKNOWN.name}</a>") < known < page.index(f">{KNOWN.name}</a>")
    assert page.count('<figure class="chart">') == 4


def test_an_empty_directory_has_an_index(tmp_path: Path) -> None:
    assert "None yet." in pages(tmp_path).index()


def test_a_single_file_holds_all_pages(tmp_path: Path) -> None:
    page = pages(stock(tmp_path, {KNOWN: hostile(STACK)}), single=True).index()
    ((name, packed),) = re.findall(r'data-packed="([^"]+)">([A-Za-z0-9+/=]+)<', page)
    assert name == KNOWN.name
    text = zlib.decompress(base64.b64decode(packed)).decode()
    assert html.escape(HOSTILE[0]).replace("&#x27;", "&#39;") in text
    assert f'href="#finding={KNOWN.name}"' in page


@pytest.mark.parametrize(
    ("name", "file"),
    [
        (KNOWN.name, KNOWN.name),
        ("a+b._-c", "a+b._-c"),
        ("../../etc/passwd", "-..-etc-passwd-"),
        ("<script>", "-script--"),
        (".hidden", "hidden-"),
        ("\udcff", "--"),
        ("é" * 300, "--"),
        ("x" * 250, "x" * 107 + "-"),
    ],
)
def test_names_of_files_are_safe(name: str, file: str) -> None:
    made = slug(name)
    assert re.fullmatch(r"[A-Za-z0-9+_-][A-Za-z0-9+._-]*", made)
    assert len(made) <= 120
    assert made == file if name == file else made.startswith(file)
    assert slug(made) == made


def test_names_that_look_alike_are_other_files() -> None:
    assert len({slug("a/b"), slug("a-b"), slug("a<b")}) == 3

"""The pages of a report as HTML: an index, and a page for each finding.

Everything that a page needs is in it, so that one can be sent alone; its content security policy
lets nothing else in, and no script run but ours.  What cases, names and ledgers say is text: Jinja
escapes it, and characters that would show as something else are spelled out (`visible`).
"""

import base64
import hashlib
import re
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from engine.base.kernel import releases_with
from fuzz.case import Case
from fuzz.defects.defect import Defect
from fuzz.defects.known import DEFECTS
from fuzz.findings.ledger import Finding
from fuzz.findings.states import STATES
from fuzz.forms.text import dump
from fuzz.lib.command import command
from fuzz.lib.status import count, duration
from fuzz.picture.svg import STYLE
from fuzz.report.curves import SIZE, Chart, charts
from fuzz.report.directory import Directory, Entry
from fuzz.report.kernels import Columns, Strip, told
from fuzz.report.studies import Studies, Subject
from fuzz.report.study import Study
from fuzz.report.views import Views
from fuzz.rules.index import BY_SLUG, gravity
from fuzz.rules.rule import Rule, Severity

MARK = "made-by-pmdfuzz"  # in the head of each page, with a digest of what it is made of
_TEMPLATES = Path(__file__).parent / "templates"
_OTHER = "other"  # severity of what is no rule: a difference, what a machine reports
# Controls, what reorders or hides text, what is no character: none is what it looks like.
_DECEIVES = re.compile(
    "[\0-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff0-\uffff\ud800-\udfff\U000e0000-\U000e0fff]"
)
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9+._-]+")
_MOST_NAME = 120  # characters of a file


def visible(text: str) -> str:
    """The text, with characters that would show as something else spelled out: U+202E."""
    return _DECEIVES.sub(
        lambda found: f"\N{LEFT CEILING}U+{ord(found[0]):04X}\N{RIGHT CEILING}", text
    )


def slug(name: str) -> str:
    """The name of a finding as that of a file; the same if it is one that we have given."""
    safe = _NOT_IN_NAMES.sub("-", name).lstrip(".")[:_MOST_NAME]
    if safe == name and safe:
        return safe
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=6).hexdigest()
    return f"{safe[: _MOST_NAME - 13]}-{digest}"


class Row(NamedTuple):
    """A finding in the index; `severity` counts from 0, the worst."""

    entry: Entry
    slug: str
    severity: str
    gravity: int
    strip: Strip

    @property
    def finding(self) -> Finding:
        """What the ledger says of it."""
        return self.entry.finding

    @property
    def calls(self) -> int | None:
        """How many its case has."""
        case = self.entry.finding.case
        return None if case is None else len(case.calls)


class Broken(NamedTuple):
    """A rule that a case breaks, and how; `rule` is None for what is none."""

    slug: str
    rule: Rule | None
    told: str
    call: int
    defect: str


class Told(NamedTuple):
    """A case with its study, for a page."""

    case: Case
    study: Study
    views: Views
    broken: list[Broken]
    commands: list[tuple[str, str]]

    @property
    def groups(self) -> list[tuple[str, tuple[str, ...]]]:
        """What it shows on which releases, in words."""
        return [(told(group.kernels), group.findings) for group in self.study.groups]


class Pages:
    """The pages of a working directory as it was read.

    Arguments: `studies` are those that there are; `single`: all of them are one file.
    """

    def __init__(self, directory: Directory, studies: Studies, *, single: bool = False) -> None:
        self._directory = directory
        self._studies = studies
        self._single = single
        self._slugs = {name: slug(name) for name in directory.entries}
        self.by_slug = {own: directory.entries[name] for name, own in self._slugs.items()}

    def index(self) -> str:
        """The page that lists all findings."""
        directory = self._directory
        rows = [self._row(entry) for entry in directory.entries.values()]
        return self._render(
            "index.html",
            title=f"pmdfuzz: {directory.workdir}",
            mark=_mark(repr(directory.at)),
            rows=rows,
            groups=[
                ("unknown", "Unknown", [row for row in rows if not row.finding.bucket.defect]),
                ("known", "Known defects", [row for row in rows if row.finding.bucket.defect]),
            ],
            columns=self._columns,
            charts=self._charts(),
            chart_size=SIZE,
            choices=self._choices(rows),
            packed=self._packed() if self._single else (),
        )

    def finding(self, entry: Entry) -> str:
        """The page of a finding."""
        mark = self.mark(entry)
        return self._render("finding.html", title=entry.name, mark=mark, **self._about(entry))

    def mark(self, entry: Entry) -> str:
        """What stands in the head of its page; differs wherever the page would."""
        finding = entry.finding
        met = (finding.kernels, finding.machines, finding.first, finding.last)
        seen = (met, finding.change, entry.changes)
        keys = [subject.key for subject in entry.subjects]
        return _mark(repr((entry.path, seen, keys)), _looks())

    def _packed(self) -> Iterator[tuple[str, str]]:
        """The findings of a single file, packed until they are looked at."""
        template = _environment().get_template("_finding.html")
        for own, entry in self.by_slug.items():
            page = template.render(**self._common(), **self._about(entry))
            yield own, base64.b64encode(zlib.compress(page.encode())).decode()

    def _render(self, template: str, **values: Any) -> str:
        return _environment().get_template(template).render(**self._common(), **values)

    def _common(self) -> Mapping[str, Any]:
        return {
            "directory": self._directory,
            "where": self._directory.workdir,
            "style": _style(),
            "script": _file("report.js"),
            "policy": policy(),
            "single": self._single,
        }

    @cached_property
    def _columns(self) -> Columns:
        entries = self._directory.entries.values()
        return Columns.of(name for entry in entries for name in entry.finding.kernels)

    def _row(self, entry: Entry) -> Row:
        finding = entry.finding
        rule = BY_SLUG.get(finding.bucket.rule)
        study = self._studies.get(entry.own) if entry.own else None
        return Row(
            entry,
            self._slugs[entry.name],
            str(rule.severity) if rule else _OTHER,
            gravity(rule.slug) if rule else len(Severity),
            self._columns.strip(finding.kernels, study.shows_on(entry.name) if study else ()),
        )

    def _charts(self) -> list[Chart]:
        found = (
            (entry.finding.first.at, bool(entry.finding.bucket.defect))
            for entry in self._directory.entries.values()
            if entry.finding.first is not None
        )
        return charts(self._directory.minutes, self._directory.runs, found)

    def _choices(self, rows: Sequence[Row]) -> Mapping[str, list[tuple[str, str]]]:
        """What can be chosen in the filters: values and words."""
        states = {row.finding.state for row in rows}
        severities = {row.severity for row in rows}
        columns = sorted({column for row in rows for column in row.strip.columns})
        return {
            "state": [(one, one) for one in STATES if one in states],
            "severity": [(one, one) for one in (*map(str, Severity), _OTHER) if one in severities],
            "rule": [(one, one) for one in sorted({row.finding.bucket.rule for row in rows})],
            "kernel": [
                (str(one), self._columns.names[one].removeprefix("linux-")) for one in columns
            ],
        }

    # --- A finding --------------------------------------------------------------------------------

    def _about(self, entry: Entry) -> Mapping[str, Any]:
        finding = entry.finding
        bucket, rule = finding.bucket, BY_SLUG.get(finding.bucket.rule)
        return {
            "entry": entry,
            "finding": finding,
            "rule": rule,
            "defects": [DEFECTS[one] for one in bucket.defect.split("+") if one in DEFECTS],
            "own": self._told(entry.own, entry.path),
            "harm": self._told(entry.harm, entry.harm_path),
        }

    def _told(self, subject: Subject | None, path: Path) -> Told | None:
        if subject is None:
            return None
        study = self._studies.get(subject) or Study("", "", trouble="it has not been run yet")
        broken = [
            Broken(one.rule, BY_SLUG.get(one.rule), one.told, one.call, one.defect)
            for one in study.breaks
        ]
        commands = list(_commands(path, subject.case))
        return Told(subject.case, study, self._studies.views(subject), broken, commands)


def _commands(path: Path, case: Case) -> Iterator[tuple[str, str]]:
    """What to do with a case: in words, and as it is pasted into a shell, anywhere."""
    file = str(path)
    yield "run it, and compare", command("replay", file)
    yield "look at each step", command("show", file)
    yield "make it smaller", command("minimize", file, "-o", "smaller.case")
    yield "a program in C", command("export", file, "--as", "c")
    if case.like is not None:
        yield "which switches make the difference", command("bisect", file)


# --- How pages are made ---------------------------------------------------------------------------


def policy() -> str:
    """The content security policy of a page: its own style and script, nothing else."""
    script, style = _hash(_file("report.js")), _hash(_style())
    return (
        f"default-src 'none'; script-src '{script}'; style-src '{style}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"


def _mark(*parts: str) -> str:
    told = "\0".join(parts).encode(errors="surrogatepass")
    return f"{MARK} {hashlib.blake2b(told, digest_size=16).hexdigest()}"


@cache
def _style() -> str:
    """That of pages, and of the pictures on them."""
    return f"{_file('report.css')}\n{STYLE}"


@cache
def _looks() -> str:
    """A digest of all that decides how pages look."""
    return _mark(STYLE, *(_file(path.name) for path in sorted(_TEMPLATES.iterdir())))


@cache
def _file(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_spelled_out,
    )
    environment.filters.update(
        count=count, duration=duration, date=_date, iso=_iso, dump=dump, releases=_releases
    )
    return environment


def _spelled_out(value: object) -> object:
    """What Jinja puts into a page, unless it is marked as HTML already."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _releases(defect: Defect) -> str:
    return str(releases_with(defect.bad))


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")

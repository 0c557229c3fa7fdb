"""`pmdfuzz findings list`: those that are asked for, for people or as JSON."""

import argparse
import contextlib
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from engine.base.geometry import UnknownName
from engine.base.kernel import kernel_named
from fuzz.case import Case, CaseError
from fuzz.cli.options import Parser, need_workdir, refuse, workdir_flag
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import CaseStore
from fuzz.findings.database import LEDGER, LedgerError
from fuzz.findings.kept import kept
from fuzz.findings.ledger import Finding, Ledger
from fuzz.findings.states import STATES
from fuzz.lib.arguments import seconds
from fuzz.lib.command import command
from fuzz.lib.exits import FINE
from fuzz.lib.lines import columns
from fuzz.matrix import in_short

# What `pmdfuzz findings` selects, which names no action.
ALL = {"unknown": False, "since": None, "states": None, "rule": None, "kernel": None, "json": False}

_NONE = "-"


def add_selection(parser: Parser) -> None:
    """The options that say which findings are listed, and how."""
    parser.add_argument(
        "--unknown", action="store_true", help="only those that no known defect explains"
    )
    parser.add_argument(
        "--since",
        type=seconds,
        metavar="T",
        help="only those found, fixed, accepted or reopened in the last T: 60, 90s, 10m, 12h, 2d",
    )
    parser.add_argument(
        "--state",
        dest="states",
        action="append",
        choices=STATES,
        help="only those in that state; may be given more than once",
    )
    parser.add_argument("--kernel", metavar="K", help="only those met on that kernel")
    parser.add_argument("--rule", metavar="R", help="only those that break that rule")
    parser.add_argument("--json", action="store_true", help="print a list of JSON objects")


@dataclass(frozen=True, slots=True)
class Row:
    """A finding as it is listed; `name` is that of its file if it is none that we named."""

    name: str
    finding: Finding
    harm: str

    @property
    def case(self) -> Case | None:
        """Its case, if there is a sound one."""
        return self.finding.case

    @property
    def kernels(self) -> list[str]:
        """Those that it was met on; without a ledger, that of its case."""
        own = self.case.kernel if self.case else None
        return list(self.finding.kernels) or [own or _NONE]

    @property
    def severity(self) -> str:
        """How bad it is that its rule is broken."""
        from fuzz.rules.index import BY_SLUG

        rule = BY_SLUG.get(self.finding.bucket.rule)
        return str(rule.severity) if rule else _NONE

    @property
    def geometry(self) -> str:
        """The page tables of its case."""
        with contextlib.suppress(UnknownName):
            if self.case is not None and self.case.kernel is not None:
                return kernel_named(self.case.kernel, self.case.geometry).geometry.name
        return (self.case.geometry if self.case else None) or _NONE

    def since(self, at: float) -> bool:
        """Has it been found, or changed its state, since then, seconds since 1970?"""
        finding = self.finding
        changed = finding.change is not None and finding.change.at >= at
        return changed or (finding.first is not None and finding.first.at >= at)

    def words(self) -> tuple[str, ...]:
        """Its line."""
        finding, case = self.finding, self.case
        first, last = finding.first, finding.last
        return (
            self.name,
            finding.state,
            finding.bucket.defect or "unknown",
            self.severity,
            self.geometry,
            str(len(case.calls)) if case else "no case",
            str(finding.count) if finding.count else _NONE,
            _date(first.at) if first else _NONE,
            _date(last.at) if last else _NONE,
            self.harm or _NONE,
            ", ".join(in_short(self.kernels)),
        )

    def as_json(self, path: Path) -> dict[str, object]:
        """The same for programs; times are those of UTC.  Arguments: `path` of its case."""
        finding, case = self.finding, self.case
        first, last, change = finding.first, finding.last, finding.change
        return {
            "name": self.name,
            "rule": finding.bucket.rule,
            "call": finding.bucket.call,
            "defect": finding.bucket.defect or None,
            "state": finding.state,
            "why": (change.why or None) if change else None,
            "changed": _iso(change.at) if change else None,
            "severity": None if self.severity == _NONE else self.severity,
            "geometry": None if self.geometry == _NONE else self.geometry,
            "calls": len(case.calls) if case else None,
            "case": str(path) if case else None,
            "seen": finding.kernels,
            "first": _iso(first.at) if first else None,
            "last": _iso(last.at) if last else None,
            "harm": self.harm or None,
        }


_TITLES = (
    *("finding", "state", "defect", "severity", "geometry", "calls", "seen", "first", "last"),
    *("harm", "kernels"),
)


def list_findings(options: argparse.Namespace) -> int:
    """Print what a working directory holds.  Errors raised: UsageError, UnknownName."""
    workdir: Path = options.workdir
    need_workdir(workdir)
    rows, errors = _rows(workdir)
    chosen = [row for row in rows if _is_chosen(row, options)]
    if options.rule and not chosen:
        _check_rule(options.rule, rows)
    if options.kernel and not chosen:
        kernel_named(options.kernel)
    status = FINE
    for error in errors:
        status = refuse(error)
    store = CaseStore(workdir)
    if options.json:
        print(json.dumps([row.as_json(store.directory / f"{row.name}.case") for row in chosen]))
    elif not chosen:
        print(f"no findings in {workdir}" + (f"; {len(rows)} of other kinds" if rows else ""))
    else:
        print(*columns([_TITLES, *(row.words() for row in chosen)]), sep="\n")
        name = chosen[0].name
        print(f"Look with: {command('findings', 'show', name, *workdir_flag(workdir))}")
    return status


def _rows(workdir: Path) -> tuple[list[Row], list[str]]:
    """All findings, unknown ones first, and what of the directory cannot be read."""
    store = CaseStore(workdir)
    # Opening a ledger that is not there would make one.
    opened = Ledger.open if (workdir / LEDGER).exists() else Ledger.reading
    try:
        with opened(workdir) or contextlib.nullcontext() as ledger:
            known, errors = kept(workdir, ledger)
    except LedgerError as error:
        known, errors = kept(workdir, None)
        errors.append(str(error))
    rows = [Row(name, finding, _harm(store, finding.bucket)) for name, finding in known.items()]
    return sorted(rows, key=lambda row: (bool(row.finding.bucket.defect), row.name)), errors


def _is_chosen(row: Row, options: argparse.Namespace) -> bool:
    return (
        not (options.unknown and row.finding.bucket.defect)
        and (options.since is None or row.since(time.time() - options.since))
        and (not options.states or row.finding.state in options.states)
        and (options.kernel is None or options.kernel in row.kernels)
        and (options.rule is None or options.rule == row.finding.bucket.rule)
    )


def _check_rule(name: str, rows: list[Row]) -> None:
    """Errors raised: UnknownName if there is no such rule, and no finding is of that name."""
    from fuzz.rules.index import BY_SLUG

    if name not in BY_SLUG and all(row.finding.bucket.rule != name for row in rows):
        raise UnknownName("rule", name, list(BY_SLUG))


def _harm(store: CaseStore, bucket: Bucket) -> str:
    """The rules about harm that a finding leads to; empty if none is known."""
    with contextlib.suppress(ValueError, CaseError):  # no finding of ours; or told before
        harm = store.load_harm(bucket)
        if harm is not None:
            return ", ".join(dict.fromkeys(expected.outcome for expected in harm.expects))
    return ""


def _date(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")

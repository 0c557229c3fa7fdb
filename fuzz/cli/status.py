"""`pmdfuzz status`: where a run stands, seen from another terminal."""

import argparse
import json
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from fuzz.cli.options import Parser, UsageError, add_workdir, define
from fuzz.findings.database import LedgerError
from fuzz.findings.history import Minute, Run
from fuzz.findings.ledger import Finding, Ledger
from fuzz.findings.states import STATES
from fuzz.lib.command import command
from fuzz.lib.exits import FINE
from fuzz.lib.lines import columns
from fuzz.lib.status import count, duration
from fuzz.matrix import in_short

_AGO = {"an hour": 3600, "a day": 86400, "a week": 604800, "30 days": 2592000, "a year": 31536000}
_LIVES = ("in progress", "over", "died")


def make_status(parser: Parser, summary: str) -> None:
    """Make the command."""
    define(
        parser,
        _status,
        summary,
        "Of none in progress, what the last one said. It reads the ledger only, and a run never "
        "waits for that.",
    )
    add_workdir(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def _status(options: argparse.Namespace) -> int:
    workdir: Path = options.workdir
    try:
        ledger = Ledger.reading(workdir)
        if ledger is None:
            raise UsageError(f"no run yet in {workdir}; `{command('run')}` begins one")
        with ledger:
            run, findings = ledger.history.last_run(), ledger.list()
            now = time.time()
            ages = {word: ledger.history.minute_before(now - age) for word, age in _AGO.items()}
    except LedgerError as error:
        raise UsageError(str(error)) from None
    if run is None:
        raise UsageError(f"no run yet in {workdir} that says where it stands")
    print(json.dumps(_as_json(run, findings, now)) if options.json else _told(run, findings, now))
    past = [(word, minute) for word, minute in ages.items() if minute is not None]
    if past and not options.json:
        print(*_history(past), sep="\n")
    return FINE


def _told(run: Run, findings: list[Finding], now: float) -> str:
    about, standing, life = run.about, run.standing, run.life
    rows = [
        ("run", _of_the_run(run, now)),
        ("fuzzes", f"{', '.join(in_short(about.kernels))} on {', '.join(about.geometries)}"),
        (
            "executions",
            f"{count(standing.executions)} in {duration(standing.seconds)}, "
            f"{count(standing.per_second)} a second",
        ),
        ("corpus", f"{standing.inputs} inputs; {count(standing.cells)} cells"),
        ("findings", f"met: {standing.unknown} unknown, {standing.known} known"),
        ("", f"kept: {_kept(findings)}"),
        ("last new", _ago(standing.last_new, now) if standing.last_new else "none in this run"),
        ("does", standing.doing or "fuzzing"),
        (
            "in all",
            f"{life.runs} run{'' if life.runs == 1 else 's'}, {duration(life.seconds)}, "
            f"{count(life.executions)} executions",
        ),
    ]
    if _life(run, now) != _LIVES[0]:
        rows = [row for row in rows if row[0] != "does"]
    return "\n".join(columns(rows))


def _of_the_run(run: Run, now: float) -> str:
    where = f"process {run.pid} on {run.host}"
    if run.ended is not None:
        return f"over {_ago(run.ended, now)}, exit status {run.status}; {run.about.name}"
    if not run.in_progress(now):
        return f"died without a word, {_ago(run.at, now)}; {run.about.name}, {where}"
    silent = f", silent for {duration(now - run.at)}" if now - run.at > 60 else ""
    return f"in progress for {duration(now - run.began)}{silent}; {run.about.name}, {where}"


def _life(run: Run, now: float) -> str:
    if run.ended is not None:
        return _LIVES[1]
    return _LIVES[0] if run.in_progress(now) else _LIVES[2]


def _kept(findings: list[Finding]) -> str:
    """How many there are in each state, those of known defects apart."""
    told = []
    for word, known in (("unknown", False), ("known", True)):
        states = Counter(one.state for one in findings if bool(one.bucket.defect) is known)
        if states:
            parts = [f"{states[state]} {state}" for state in STATES if states[state]]
            told.append(f"{states.total()} {word} ({', '.join(parts)})")
    return ", ".join(told) or "none"


def _ago(at: float, now: float) -> str:
    return f"{duration(max(now - at, 0))} ago"


def _history(past: list[tuple[str, Minute]]) -> list[str]:
    """Where the directory stood; what is further back than its first minute is not shown."""
    rows: list[tuple[str, ...]] = [("", "executions", "inputs", "cells", "unknown", "known")]
    for word, minute in past:
        counts = (minute.executions, minute.inputs, minute.cells, minute.unknown, minute.known)
        rows.append((f"{word} ago", *map(count, counts)))
    return columns(rows)


def _as_json(run: Run, findings: list[Finding], now: float) -> dict[str, object]:
    """The same for programs; times are those of UTC."""
    standing, life = run.standing, run.life
    return {
        "run": run.about.name,
        "is": _life(run, now),
        "status": run.status,
        "host": run.host,
        "pid": run.pid,
        "began": _iso(run.began),
        "told": _iso(run.at),
        "ended": None if run.ended is None else _iso(run.ended),
        "kernels": run.about.kernels,
        "geometries": run.about.geometries,
        "program": run.about.program,
        "seconds": standing.seconds,
        "executions": standing.executions,
        "per_second": standing.per_second,
        "inputs": standing.inputs,
        "cells": standing.cells,
        "met": {"unknown": standing.unknown, "known": standing.known},
        "kept": {
            word: Counter(one.state for one in findings if bool(one.bucket.defect) is known)
            for word, known in (("unknown", False), ("known", True))
        },
        "last_new": None if standing.last_new is None else _iso(standing.last_new),
        "doing": standing.doing or None,
        "in_all": life._asdict(),
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")

"""What a run hands over to other programs: as JSON, as JUnit XML, as a baseline."""

import contextlib
import re
import sys
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from fuzz.campaign.session import Seen, Session
from fuzz.campaign.verdict import any_counts, pardon, pardon_of_reopened
from fuzz.case import CaseError
from fuzz.findings.baseline import Baseline
from fuzz.findings.database import LedgerError
from fuzz.findings.states import FIXED, REOPENED
from fuzz.forms import text
from fuzz.lib.exits import BAD_INPUT, FINE, SURPRISES
from fuzz.lib.files import WriteError, write_atomic
from fuzz.rules.index import BY_SLUG

_SUITE = "pmdfuzz"
# What XML 1.0 has no way to write, not even as a reference (its section 2.2).
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True)
class Met:
    """A finding that the run met, or that the retest at its start has reopened (without hits).

    `state` see `fuzz.findings.states`; `pardon` is why it does not count for the exit status (None:
    it counts), `severity` that of its rule (None: it is no rule), `case` the file and `program` its
    text.
    """

    name: str
    rule: str
    call: str
    defect: str | None
    state: str
    pardon: str | None
    severity: str | None
    hits: dict[str, int]
    case: str
    program: str


@dataclass(frozen=True, slots=True)
class Result:
    """A run that is over; `status` is the exit status, `workdir` where everything is kept."""

    status: int
    run: str
    workdir: str
    kernels: list[str]
    geometries: list[str]
    seconds: float
    executions: int
    inputs: int
    cells: int
    findings: list[Met]

    @classmethod
    def of(cls, session: Session, status: int) -> Self:
        """That of a session that is over."""
        progress = session.progress
        met = [_met(session, seen) for _, seen in sorted(session.findings.items())]
        return cls(
            status=status,
            run=session.run_id,
            workdir=str(session.workdir),
            kernels=list(session.kernels),
            geometries=[geometry.name for geometry in session.geometries],
            seconds=round(progress.seconds, 3),
            executions=progress.execs,
            inputs=progress.corpus,
            cells=progress.cells,
            findings=[*met, *_reopened(session)],
        )

    def as_json(self) -> dict[str, object]:
        """The same, as JSON can say it."""
        return asdict(self)

    def as_junit(self) -> str:
        """The same as JUnit XML: a finding that counts is a failure, another one is skipped.

        The run is a test case of its own, so that one without findings is no empty suite.
        """
        suite = ET.Element("testsuite", name=_SUITE)
        run = ET.SubElement(suite, "testcase", classname=_SUITE, name=", ".join(self.kernels))
        run.set("time", str(self.seconds))
        if broken := self.status not in (FINE, SURPRISES):
            ET.SubElement(run, "error", message=f"exit status {self.status}", type="run")
        failures = 0
        for one in self.findings:
            case = ET.SubElement(suite, "testcase", classname=f"{_SUITE}.{one.rule}")
            case.set("name", one.name)
            if one.pardon is not None:
                ET.SubElement(case, "skipped", message=one.pardon)
                continue
            failures += 1
            rule = BY_SLUG.get(one.rule)
            failure = ET.SubElement(case, "failure", type=one.severity or "difference")
            failure.set("message", _xml(rule.statement if rule else one.rule))
            failure.text = _xml(f"{one.case}\n\n{one.program}")
        counts = {
            "tests": len(self.findings) + 1,
            "failures": failures,
            "errors": int(broken),
            "skipped": len(self.findings) - failures,
            "time": self.seconds,
        }
        root = ET.Element("testsuites")
        for element in (root, suite):
            element.attrib.update({name: str(value) for name, value in counts.items()})
        root.append(suite)
        ET.indent(root)
        return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def hand_over(session: Session, status: int) -> Result:
    """Write what the options ask for.

    Returns: the result; its status is another one if a file cannot be written, or if the baseline
    has all that counts from now on.
    """
    options, problems = session.options, list[WriteError | LedgerError]()
    if options.update_baseline and options.baseline is not None and session.baseline is not None:
        try:
            _update(session, session.baseline, options.baseline)
        except (WriteError, LedgerError) as error:
            problems.append(error)
        if status == SURPRISES and not any_counts(session):
            status = FINE
    result = Result.of(session, status)
    if options.junit is not None:
        try:
            write_atomic(options.junit, result.as_junit())
        except WriteError as error:
            problems.append(error)
    for problem in problems:
        print(f"pmdfuzz run: {problem}", file=sys.stderr)
    return replace(result, status=BAD_INPUT) if problems else result


def _update(session: Session, baseline: Baseline, path: Path) -> None:
    """Add what counts to the baseline, and take out what a retest has shown to be fixed.

    What this run has not met stays: it may have been short.
    Errors raised: WriteError, LedgerError.
    """
    met = [seen.bucket for seen in session.findings.values() if not pardon(session, seen)]
    more = {*met, *(one for one in session.reopened if not pardon_of_reopened(session, one))}
    states = session.ledger.states.last()
    fixed = [one for one in baseline.reasons if one in states and states[one].state == FIXED]
    updated = baseline.updated(more, f"run {session.run_id}", fixed)
    updated.save(path)
    session.baseline = updated
    gone = f", {len(fixed)} fixed and taken out" if fixed else ""
    session.say(f"{path}: {len(more)} more{gone}, {len(updated.reasons)} in all")


def _met(session: Session, seen: Seen) -> Met:
    bucket, path = seen.bucket, session.path(seen.bucket)
    rule = BY_SLUG.get(bucket.rule)
    return Met(
        name=bucket.name,
        rule=bucket.rule,
        call=bucket.call,
        defect=bucket.defect or None,
        state=seen.state,
        pardon=pardon(session, seen) or None,
        severity=str(rule.severity) if rule else None,
        hits={name: seen.hits[name] for name in sorted(seen.hits)},
        case=str(path),
        program=_program(path) or text.dump(seen.case),
    )


def _reopened(session: Session) -> list[Met]:
    """Those that the run has not met."""
    found = []
    for bucket in sorted(set(session.reopened) - set(session.findings)):
        with contextlib.suppress(CaseError):
            case = session.ledger.cases.load(bucket)
            if case is not None:
                kernel = next(iter(session.kernels.values()))
                seen = Seen(bucket, case, kernel, old=True, state=REOPENED)
                found.append(_met(session, seen))
    return found


def _program(path: Path) -> str:
    """The text of a case; empty if it cannot be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="utf-8")
    return ""


def _xml(words: str) -> str:
    """Text that XML can hold."""
    return _NOT_XML.sub("\ufffd", words)

"""What a run prints: its first lines, each new finding, and the table at the end."""

import contextlib
import sys
from collections import Counter
from collections.abc import Sequence

from engine.base.kernel import Kernel
from fuzz.campaign.coverage import HOW
from fuzz.campaign.session import Seen, Session
from fuzz.case import Case, CaseError
from fuzz.defects import known
from fuzz.findings.bucket import Bucket
from fuzz.findings.states import ACCEPTED, REOPENED
from fuzz.forms import text
from fuzz.lib.command import command
from fuzz.lib.lines import fitted, indented, short
from fuzz.lib.status import Progress, count, duration, wants_colour
from fuzz.matrix import in_short
from fuzz.subjects.against import Against, Divergence, reported
from fuzz.subjects.beside import told_left_out
from fuzz.subjects.likeness import told as told_beside
from fuzz.tell.story import describe

_COLUMNS = 80  # of the table at the end
_KERNELS = 20


def headline(session: Session) -> str:
    """What is about to be fuzzed, for how long, and where everything is kept."""
    options = session.options
    limits = [duration(options.seconds)] if options.seconds is not None else []
    if options.runs is not None:
        limits.append(f"{options.runs} executions")
    until = " or ".join(limits) or "Ctrl-C"
    geometries = ", ".join(geometry.name for geometry in session.geometries)
    kernels = ", ".join(in_short(session.kernels))
    if session.like is not None:
        kernels += f" beside {session.like.name}"
    return (
        f"fuzzing {kernels} on {geometries}, seed {session.seed}, "
        f"until {until}; everything is kept in {short(session.workdir)}\n"
        f"coverage of the model by {HOW} (Python {sys.version_info[0]}.{sys.version_info[1]})"
    )


def told_subject(against: Against) -> str:
    """A subject that new inputs run on, and what it cannot be asked for."""
    name, lacks = against.subject.name, against.subject.able.lacks
    without = f"; it has no {', '.join(lacks)}" if lacks else ""
    return f"against {name}, beside {against.model.name}{without}"


# --- Findings -------------------------------------------------------------------------------------


def told(session: Session, seen: Seen, kernel: Kernel) -> str:
    """A new finding, once it is minimal."""
    outcomes = [f"{expected.kernel} {expected.outcome}" for expected in seen.case.expects]
    return "\n".join(
        (
            "",
            f"NEW FINDING {seen.bucket.name} on {_ground(session, kernel)}",
            describe(
                seen.case,
                kernel,
                colour=wants_colour(sys.stdout),
                rules_after=session.options.rules_after,
            ),
            f"Shows: {', '.join(outcomes)}",
            f"Reproduce with: {command('replay', session.path(seen.bucket))}",
            f"Promote with:   {_promote(session, seen)}",
            "",
        )
    )


def told_harm(session: Session, seen: Seen, case: Case, harm: Bucket, kernel: Kernel) -> str:
    """What a finding leads to, with a program of its own."""
    return "\n".join(
        (
            "",
            f"{seen.bucket.name} LEADS TO {harm.name} on {_ground(session, kernel)}",
            describe(
                case,
                kernel,
                colour=wants_colour(sys.stdout),
                rules_after=session.options.rules_after,
            ),
            f"Reproduce with: {command('replay', session.harm_path(seen.bucket))}",
            "",
        )
    )


def harm_not_looked_for(session: Session, seen: Seen) -> str:
    """A finding whose search for harm the end of the run has cut short."""
    return f"looking for harm was cut short:\n  {command('harm', session.path(seen.bucket))}"


def told_old(session: Session, seen: Seen) -> str:
    """A finding of earlier runs whose case is a shorter one now."""
    calls = len(seen.case.calls)
    what = f"{seen.bucket.name}, found by an earlier run: {calls} call{'' if calls == 1 else 's'}"
    return f"minimized: {what}; {short(session.path(seen.bucket))}"


def told_known(session: Session, seen: Seen, kernel: Kernel) -> str:
    """The same of a known defect, in a line."""
    what, path = known.told(seen.bucket.defect), short(session.path(seen.bucket))
    return f"known: {what} ({_ground(session, kernel)}); {path}"


def told_parting(session: Session, seen: Seen, kernel: Kernel) -> str:
    """The same of a difference between two kernels."""
    pair = session.pair(kernel)
    parting = pair.parting(seen.case)
    assert parting is not None, "it has just been minimized"
    colour = wants_colour(sys.stdout)
    return "\n".join(
        (
            "",
            f"NEW FINDING {seen.bucket.name}: {_ground(session, kernel)} is not {pair.like.name}",
            told_beside(pair, seen.case, parting, colour=colour),
            "",
            f"Look with:      {command('show', session.path(seen.bucket))}",
            f"Which switches: {command('bisect', session.path(seen.bucket))}",
            f"Promote with:   {_promote(session, seen)}",
            "",
        )
    )


def told_divergence(session: Session, seen: Seen, found: Divergence, against: Against) -> str:
    """The same of a divergence between machine and model, in a line if it is explained."""
    kernel = against.model.kernel
    if found.defect:
        what, path = known.told(found.defect), short(session.path(seen.bucket))
        return f"known: {what} ({against.subject.name} reports {found.kind.detail}); {path}"
    on = ("--on", against.on, "--kernel", kernel.name)
    return "\n".join(
        (
            "",
            f"NEW FINDING {seen.bucket.name}: {against.subject.name} is not {against.model.name}",
            str(found.kind),
            indented(found.told()),
            f"Reproduce with: {command('check', session.path(seen.bucket), *on)}",
            "",
        )
    )


def not_minimized(session: Session, seen: Seen) -> str:
    """A finding that the end of the run left as it was."""
    where = session.path(seen.bucket)
    if seen.divergence is not None:
        return f"not minimized: {short(where)}"
    return f"not minimized: {short(where)}\n  {command('minimize', where, '-o', where)}"


# --- The end --------------------------------------------------------------------------------------


def summary(session: Session, execs: int, machines: Sequence[str]) -> str:
    """The findings of the run, and what to do next.

    Arguments: `execs` executions; `machines` a line about each subject.
    """
    progress = session.progress
    lines = [
        "",
        f"{execs} executions in {duration(progress.seconds)}, "
        f"{progress.corpus} inputs in the corpus, {count(progress.cells)} cells",
        *_in_all(progress, execs),
        *machines,
    ]
    if not session.findings:
        return "\n".join([*lines, "no findings"])
    ordered = sorted(
        session.findings.values(),
        key=lambda seen: (bool(seen.bucket.defect), seen.old, seen.bucket),
    )
    lines += fitted(_table(session, ordered), _COLUMNS)
    lines.append(f"Their cases are in {short(session.path(ordered[0].bucket).parent)}.")
    if progress.known and not session.options.count_known:
        lines.append("Known defects do not count for the exit status (but with --count-known).")
    fresh = next((seen for seen in ordered if not seen.old), None)
    if fresh is not None:
        harm = session.harm_path(fresh.bucket)
        lines += [
            "",
            "Next:",
            f"  {command('show', session.path(fresh.bucket))}",
            *([f"  {command('show', harm)}"] if harm.exists() else []),
            *([] if reported(fresh.bucket) else [f"  {_promote(session, fresh)}"]),
        ]
    return "\n".join(lines)


def _in_all(progress: Progress, execs: int) -> list[str]:
    """A line about all runs in the working directory, if this is not the first."""
    runs = progress.runs_before
    if not runs:
        return []
    seconds = duration(progress.seconds_before + progress.seconds)
    earlier = f"the {runs} runs" if runs > 1 else "the run"
    return [f"{progress.execs_before + execs} executions in {seconds} with {earlier} before"]


def machine_line(
    against: Against, done: int, left_out: Counter[str], waiting: int, lost: str
) -> str:
    """What a subject has done: inputs run, those left out by what they needed, those left to run,
    and why it was lost, if it was.
    """
    without = f"; left out: {told_left_out(left_out)}" if left_out else ""
    missed = f", {waiting} new ones were not" if waiting else ""
    why = f"; lost: {lost.splitlines()[0]}" if lost else ""
    return (
        f"{done} inputs were run on {against.subject.name} and compared with "
        f"{against.model.name}{without}{missed}{why}"
    )


def _table(session: Session, ordered: Sequence[Seen]) -> list[tuple[str, ...]]:
    """A row for each finding, below the heading."""
    rows: list[tuple[str, ...]] = [
        ("finding", "", "defect", "hits", "calls", "kernels" if len(session.kernels) > 1 else "")
    ]
    for seen in ordered:
        path, case = session.path(seen.bucket), seen.case
        with contextlib.suppress(CaseError):
            case = text.load(path)  # perhaps another run has kept a simpler one
        rows.append(
            (
                seen.bucket.name,
                seen.state if seen.state in (ACCEPTED, REOPENED) else "old" if seen.old else "new",
                "known" if seen.bucket.defect else "unknown",
                count(seen.hits.total()),
                str(len(case.calls)),
                _few([name for name in session.kernels if seen.hits[name]], len(session.kernels)),
            )
        )
    return rows


def _few(names: Sequence[str], all_of_them: int) -> str:
    """Names of kernels, or how many there are where they would take a line."""
    if all_of_them == 1:
        return ""
    told = " ".join(name.removeprefix("linux-") for name in in_short(names))
    return told if len(told) <= _KERNELS else f"{len(names)} of {all_of_them}"


def _ground(session: Session, kernel: Kernel) -> str:
    """The name of a kernel, with its geometry unless that is the one that is meant anyway."""
    usual = kernel.geometry == session.geometry
    return kernel.name if usual else f"{kernel.name} ({kernel.geometry.name})"


def _promote(session: Session, seen: Seen) -> str:
    return command("findings", "promote", seen.bucket.name, "--workdir", session.workdir)

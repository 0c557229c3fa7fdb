"""What a mail says of its matter: subject, what happens, what is known of it, which kernels."""

import re
from collections.abc import Iterator

from engine.base.kernel import NEWEST, SWITCHES, base_of, releases_with
from engine.base.release import LATEST, OLDEST, Release
from engine.state import terms
from fuzz.calls.registry import DIRECTIVES
from fuzz.defects.defect import Defect
from fuzz.findings.bucket import Bucket
from fuzz.mail.matter import Matter, Standing
from fuzz.picture.svg import clean
from fuzz.report.kernels import told
from fuzz.rules.index import BY_SLUG
from fuzz.subjects.likeness import Likeness

# The part of the kernel that a call is, as subjects of its lists name it; "mm" for all others.
_PARTS = {
    "mremap": "mm/mremap",
    "relocate": "mm/mremap",
    "execve_stack": "mm/mremap",  # move_page_tables(), which exec calls
    "mmap": "mm/mmap",
    "munmap": "mm/mmap",
    "mprotect": "mm/mprotect",
    "madvise": "mm/madvise",
    "mseal": "mm/mseal",
    "mlock": "mm/mlock",
    "mlock2": "mm/mlock",
    "munlock": "mm/mlock",
    "uffd_register": "mm/userfaultfd",
    "uffd_wp": "mm/userfaultfd",
    "uffd_rwp": "mm/userfaultfd",
}
_NUMBERS = re.compile(r"[;,]? \(?B-\d+(?:\)|\b)(?: to B-\d+|, B-\d+)*")  # of bugs, in our museum
MODEL = (
    "pmdfuzz runs programs on an executable model of this code, each release a set of switches, "
    "and checks what the kernel promises."
)


def subject(matter: Matter) -> str:
    """The subject."""
    standing = matter.standing
    parts = {Standing.HYPOTHETICAL: "hypothetical: ", Standing.OWN: f"{_switches(matter)}: "}
    return f"[{standing.value}] {_part(matter)}: {parts.get(standing, '')}{_headline(matter)}"


def happens(matter: Matter) -> Iterator[str]:
    """What happens, and what should, a paragraph each."""
    for defect in matter.defects:
        title = defect.headline
        yield f"{title[0].upper()}{title[1:]}. {defect.text}".rstrip()
        if defect.reason:
            yield f"No release up to {NEWEST} repairs it. What pmdfuzz proposes: {defect.reason}"
    if matter.case.like is not None:
        yield f"{Likeness.of(matter.case, matter.kernel.name, matter.case.like)}."
    bucket = matter.bucket
    if bucket is None:
        yield "The program breaks no rule on any release that is modelled: it is a test, no report."
    elif rule := BY_SLUG.get(bucket.rule):
        yield f"What the kernel promises ({rule.slug}): {rule.statement}."
        if source := _NUMBERS.sub("", rule.source).strip("; "):
            yield f"Where that is promised or checked: {source}."


def observed(matter: Matter) -> Iterator[str]:
    """In lines: where it shows, what is there and what should be."""
    if matter.found is None:
        return
    violation, geometry = matter.found.violation, matter.kernel.geometry
    place = "" if violation.where == geometry.arena else f", at {_place(matter)}"
    call = matter.case.calls[matter.found.call].name
    yield f"Call {_number(matter)} of the program below, {call}{place}:"
    yield f"  observed: {violation.found}"
    yield f"  expected: {violation.expected}"
    others = dict.fromkeys(one.violation.rule for one in matter.found.broken)
    others.pop(violation.rule, None)
    if others:
        yield f"  also broken: {', '.join(others)}"


def standing(matter: Matter) -> str:
    """What is known, and what is not: never more than that."""
    name = matter.kernel.name
    match matter.standing:
        case Standing.KNOWN:
            ids = " and ".join(one.id for one in matter.defects)
            return (
                f"What is told here is what the model of {name} does. pmdfuzz knows this defect, "
                f"as {ids}."
            )
        case Standing.HYPOTHETICAL:
            return (
                "HYPOTHETICAL: no caller in the kernel comes to this state. It is shown by the "
                f"model of {name}, which moves a range as none of them does. It is no report of a "
                "bug, but a question: should the code be ready for it?"
            )
        case Standing.OWN:
            return (
                f"The model says so, of {base_of(name)} with {_switches(matter)}, which no release "
                f"is. It was not tried on a machine, as far as is recorded. {_base_says(matter)}"
            )
        case Standing.MACHINE:
            return (
                f"A machine did otherwise than the model of {name}. Which of them is wrong is not "
                "known: it may be the model."
            )
        case Standing.UNKNOWN:
            return (
                f"The model of {name} says so; it was not tried on a machine, as far as is "
                "recorded. No known defect explains it. It may be a mistake of the model: try the "
                "program on a kernel before you call it a bug."
            )
        case Standing.NOTHING:
            return f"What is told here is what the model of {name} does."


def kernels(matter: Matter) -> Iterator[str]:
    """Which kernels have it, what is right, and where it was met, in lines."""
    if matter.standing is not Standing.HYPOTHETICAL:
        for defect in matter.defects:
            yield from _releases(defect)
    if matter.bucket is not None:
        yield f"By their models, the program shows it on {_shows(matter)}."
    yield f"The releases from {OLDEST} to {NEWEST} are modelled."
    if matter.met:
        names = (f"{told([name])} ({times}x)" for name, times in matter.met.items())
        where = "beside" if matter.standing is Standing.MACHINE else "on"
        yield f"Runs have met it {where} the models of {', '.join(names)}."
    yield _machines(matter)


def _machines(matter: Matter) -> str:
    """On which machines it was seen, as far as is known."""
    if matter.machines:
        named = (f"{clean(name, 80)} ({times}x)" for name, times in matter.machines.items())
        return f"Machines that have shown it: {', '.join(named)}."
    if matter.standing is Standing.MACHINE:
        return "Machines: which one it was is not recorded."
    notes = ", but for what the notes below say" if matter.case.notes else ""
    return f"Machines: none is recorded{notes}."


def _releases(defect: Defect) -> Iterator[str]:
    """Which releases have a defect, and what others do, or should, in its place."""
    since = releases_with(defect.bad)
    yield f"Releases with {defect.id}: {since}."
    if not since.holds(Release(NEWEST, LATEST)):
        yield f"{NEWEST} does not have it any more: this is about older ones."
    for name, right in defect.repair.items():
        switch, when = SWITCHES[name], releases_with({name: right})
        if switch.when.spans and since.spans != switch.when.spans:
            so = "holds" if right else "does not hold"
            text = _NUMBERS.sub("", switch.text)
            yield f"It is right where this {so} ({when}): {text}."


def _headline(matter: Matter) -> str:
    if matter.defects:
        return "; ".join(one.headline for one in matter.defects)
    if matter.bucket is None:
        return "a program that breaks no rule"
    rule = BY_SLUG.get(matter.bucket.rule)
    return f"broken: {rule.statement}" if rule else matter.bucket.rule.replace("-", " ")


def _part(matter: Matter) -> str:
    bucket = matter.bucket or Bucket("", _last_call(matter))
    return _PARTS.get(bucket.call, "mm")


def _last_call(matter: Matter) -> str:
    names = [call.name for call in matter.case.calls if call.name not in DIRECTIVES]
    moving = [name for name in names if name in ("mremap", "execve_stack", "relocate")]
    return (moving or names or [""])[-1]


def _switches(matter: Matter) -> str:
    """What a kernel of one's own has otherwise."""
    return matter.kernel.name.removeprefix(base_of(matter.kernel.name))


def _base_says(matter: Matter) -> str:
    base = base_of(matter.kernel.name)
    if base in matter.shows_on:
        return f"The model of {base} alone shows it, too."
    return f"The model of {base} alone does not show it."


def _shows(matter: Matter) -> str:
    return told(matter.shows_on) or "no release"


def _number(matter: Matter) -> int:
    assert matter.found is not None
    return matter.found.call + 1


def _place(matter: Matter) -> str:
    assert matter.found is not None
    return terms.span(matter.kernel.geometry, matter.found.violation.where)

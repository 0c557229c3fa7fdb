"""What there is, for people to look up: kernels, their switches, geometries, rules."""

import textwrap
from collections.abc import Iterator, Sequence

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import KERNELS, KNOWN_NAMES, SWITCHES, releases, releases_with
from fuzz.defects.catalogue import EXHIBITS
from fuzz.defects.defect import Defect
from fuzz.defects.known import KNOWN
from fuzz.lib.command import command
from fuzz.lib.lines import columns
from fuzz.rules.index import checks_of
from fuzz.rules.rule import Rule

_INDENT = "    "
_CASE = "case: "


def kernels() -> Iterator[str]:
    """The switches by which kernels differ, the kernels and the geometries, in lines."""
    names = [kernel.removeprefix("linux-") for kernel in KERNELS]
    first = max(map(len, SWITCHES))
    yield f"{'switch':{first}}  {'  '.join(names)}"
    for switch in SWITCHES.values():
        marks = (
            ("yes" if getattr(kernel, switch.name) else "-").center(len(name))
            for name, kernel in zip(names, KERNELS.values(), strict=True)
        )
        yield f"{switch.name:{first}}  {'  '.join(marks)}".rstrip()
        yield f"    {switch.when}: {switch.text}"
        for known in KNOWN:
            if switch.name in known.repair and not switch.when.spans:
                yield f"    our proposal for {known.id}: {known.reason}"
        if switch.unread:
            yield f"    not asked for by the model: {switch.unread.reason}"
    yield f"\nkernels:    {', '.join(KERNELS)}"
    yield f"            names: {'; '.join(KNOWN_NAMES)}"
    yield f"            all: the {len(releases())} releases that differ from the one before"
    width = max(map(len, GEOMETRIES))
    lines = [f"{name:{width}}  {geometry.description}" for name, geometry in GEOMETRIES.items()]
    yield "geometries: " + "\n            ".join(lines)


def defects(chosen: Sequence[Defect], width: int, *, full: bool) -> Iterator[str]:
    """Known defects, in lines of at most `width` columns, or all that there is to say of each."""
    rows = [(one.id, one.cve or "-", one.title) for one in chosen]
    for head, defect in zip(columns(rows), chosen, strict=True):
        yield head
        for text in _defect(defect, full=full):
            if text.startswith(_CASE):  # a command: it can be pasted in one piece only
                yield _INDENT + text
                continue
            yield textwrap.fill(
                text,
                width,
                initial_indent=_INDENT,
                subsequent_indent=2 * _INDENT,
                break_on_hyphens=False,
            )


def _defect(defect: Defect, *, full: bool) -> Iterator[str]:
    """What is said of a defect, a paragraph each."""
    if full:
        yield from filter(None, (defect.text,))
        yield f"rule: {defect.broken.id} {defect.rule}: {defect.broken.statement}"
    switches = (f"{'+' if on else '-'}{name}" for name, on in defect.bad.items())
    yield f"kernels: {releases_with(defect.bad)}" + (f": {', '.join(switches)}" if full else "")
    yield _CASE + command("show", f"corpus/{defect.case}.case", "--kernel", defect.shown_on)
    for name, right in defect.repair.items():
        switch, sign = SWITCHES[name], "+" if right else "-"
        by = f"{_when(name, right)}" if switch.when.spans else "no kernel has it"
        yield f"repair: {sign}{name} ({by})" + (f": {switch.text}" if full else "")
    if defect.reason:
        yield f"our proposal: {defect.reason}"
    if full and (put_back := [e.name for e in EXHIBITS if e.id == defect.id]):
        yield f"in the museum: {', '.join(put_back)}"


def _when(switch: str, on: bool) -> str:
    return str(releases_with({switch: on}))


def rules(chosen: Sequence[Rule], width: int) -> Iterator[str]:
    """Rules, checked or not, in lines of at most `width` columns."""
    whens = [dict.fromkeys(check.when for check in checks_of(rule)) for rule in chosen]
    heads = columns(
        [
            (rule.id, rule.slug, rule.severity, ", ".join(when) or "not checked")
            for rule, when in zip(chosen, whens, strict=True)
        ]
    )
    for head, rule in zip(heads, chosen, strict=True):
        yield head
        texts = [rule.statement, f"Kernel: {rule.source}"]
        if rule.needs:
            texts.append(f"Not checked; needs {rule.needs}")
        for text in texts:
            yield textwrap.indent(textwrap.fill(text, width - 4), "    ")

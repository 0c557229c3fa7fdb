"""What there is, for people to look up: kernels, their switches, geometries, rules."""

import textwrap
from collections.abc import Iterator, Sequence

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import KERNELS, KNOWN_NAMES, SWITCHES
from fuzz.defects.known import KNOWN
from fuzz.lib.lines import columns
from fuzz.rules.index import checks_of
from fuzz.rules.rule import Rule


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
    width = max(map(len, GEOMETRIES))
    lines = [f"{name:{width}}  {geometry.description}" for name, geometry in GEOMETRIES.items()]
    yield "geometries: " + "\n            ".join(lines)


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

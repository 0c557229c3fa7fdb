"""What is written as strace prints it: as recorded logs have it, and read back as it was."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.base.address import WORD_MASK
from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from engine.base.uapi import MAP_ANONYMOUS, MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from fuzz.calls.registry import CALLS, MODELLED_CALLS, as_made, call
from fuzz.case import Call, Case
from fuzz.execute import execute
from fuzz.forms.text import format_call
from fuzz.forms.wire import WIDTH, Codec
from fuzz.strace import values
from fuzz.strace.lines import Log, Returned
from fuzz.strace.processes import Reader
from fuzz.strace.steps import MSEAL, READERS, Inexpressible, Step
from fuzz.strace.values import Unknown
from fuzz.strace.write import ARENA, Dialect, Writer, as_strace
from tests.lib.constants import ROOT

LOGS = ROOT / "tests" / "fuzz" / "strace" / "logs"
KERNEL = kernel_named("linux-6.18")
DIALECTS = {  # what stands before and behind calls apart
    "file": Dialect(),
    "terminal": Dialect(),
    "numbers": Dialect(hexadecimal=True),
    "verbose": Dialect(form="verbose"),
    "names": Dialect(names=True),
}
VERSIONS = ("6.1", "6.13", "7.2")


def recorded() -> list[Path]:
    """The logs of memory.c in the forms that are written here."""
    return sorted(p for p in LOGS.glob("[67]*.strace") if p.stem.split("-")[1] in DIALECTS)


def written(step: Step, dialect: Dialect) -> str:
    """The line of a call."""
    args = list(call(step.name, *step.args).args)
    for index in CALLS[step.name].addresses:
        args[index] = (args[index] - ARENA) & WORD_MASK
    result = step.result - ARENA if isinstance(step.result, int) and step.result else step.result
    (line,) = Writer(dialect).lines(Call(step.name, tuple(args)), result)
    return line


@pytest.mark.parametrize("path", recorded(), ids=lambda path: path.stem)
def test_calls_are_written_as_strace_does(path: Path) -> None:
    version, form = path.stem.split("-")
    dialect = replace(DIALECTS[form], version=version)  # type: ignore[arg-type]
    log = Log(frozenset(READERS))
    compared = 0
    for event in log.events(path.read_text(encoding="utf-8").splitlines()):
        if not isinstance(event, Returned):
            continue
        try:
            step = READERS[event.name](event.operands, values.result(event.result))
        except (Inexpressible, Unknown):
            continue
        if step.note or (step.made != step.args and step.made):
            continue  # of a file, or at a place that the kernel chose
        if event.name == "mmap" and re.match(
            r"(addr=)?(NULL|0),|.*(0x80|0xb2|ABOVE)", event.operands
        ):
            continue  # a flag that cases do not have, and that has no effect
        if event.name == MSEAL:
            continue  # which has more operands than mean anything
        line, _, result = written(step, dialect).partition(" = ")
        assert line.rstrip() == f"{event.name}({event.operands})"
        assert result == event.result
        compared += 1
    assert compared > 30


# --- And back -------------------------------------------------------------------------------------

CODEC = Codec(GEOMETRIES["x86-64"], calls=MODELLED_CALLS)
SEEN = ("mmap", "munmap", "mprotect", "mremap", "madvise", "mlock", "munlock", "mlock2", "mseal")
dialects = st.builds(
    Dialect,
    version=st.sampled_from(VERSIONS),
    form=st.sampled_from(["abbrev", "raw", "verbose"]),
    hexadecimal=st.booleans(),
    pid=st.sampled_from(["", "file", "terminal"]),
    time=st.sampled_from(["", "relative", "epoch"]),
    numbers=st.booleans(),
    pointers=st.booleans(),
    spent=st.booleans(),
    names=st.booleans(),
    column=st.sampled_from([1, 39]),
)


def as_it_comes_back(one: Call, dialect: Dialect) -> Call | None:
    """What a log can say of a call; None: not enough."""
    one = as_made(one, GEOMETRIES["x86-64"])
    if one.name == "mmap" and not one.args[3] & MAP_ANONYMOUS:
        return None  # a log does not show who made a file, and how large it is
    if one.name != "mremap":
        return one
    flags = one.args[3]
    if flags & MREMAP_DONTUNMAP and dialect.version == "6.1":
        return None
    placing = flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)
    shown = placing and (flags & MREMAP_MAYMOVE or dialect.hexadecimal)
    return one if shown else one._replace(args=(*one.args[:4], 0))


def told_apart(case: Case, dialect: Dialect) -> Case:
    """The calls of a case that a log shows, with their results."""
    calls = [
        back for one in case.calls if one.name in SEEN and (back := as_it_comes_back(one, dialect))
    ]
    results = execute(Case(tuple(calls)), KERNEL, stop=False, check=False).results
    kept = [one for one, got in zip(calls, results, strict=True) if got not in ("SKIP", "OUT")]
    results = execute(Case(tuple(kept)), KERNEL, stop=False, check=False).results
    return Case(tuple(one._replace(result=got) for one, got in zip(kept, results, strict=True)))


@pytest.mark.slow
@settings(deadline=None)
@given(st.binary(max_size=16 * WIDTH), dialects)
def test_a_case_comes_back_from_its_log(data: bytes, dialect: Dialect) -> None:
    case = told_apart(CODEC.decode(data), dialect)
    lines = as_strace(case, KERNEL, dialect).splitlines()
    reader = Reader("log", "log", KERNEL, touching=False)
    found = [one for program in reader.programs(lines) for one in program.case.calls]
    if reader.imported.assumed:
        return  # a call that failed has changed something before
    assert [*map(format_call, found)] == [*map(format_call, case.calls)]
    assert not reader.imported.left_out

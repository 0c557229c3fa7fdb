"""The line protocol: what is said is understood, by the model and by whoever asks it."""

import io
import json
from typing import Any

import pytest

from engine.base.geometry import GEOMETRIES, Geometry
from engine.base.kernel import kernel_named
from fuzz.case import Case
from fuzz.forms.text import load, parse
from fuzz.subjects.model import Model
from fuzz.subjects.protocol import Hello, ProtocolError, decode, encode
from fuzz.subjects.serve import hello, serve
from tests.lib.constants import ROOT

KERNEL = kernel_named("linux-6.18")
HELLO = hello(KERNEL)
# As the agent says it on machines of each kind.
MACHINE = {
    "hello": 1,
    "arch": "x86-64",
    "release": "6.18.44",
    "version": "#1 SMP",
    "page_bytes": 4096,
    "user_top": (1 << 47) - 4096,
    "arena": [1 << 44, 1 << 39],
    "calls": ["mmap", "touch"],
    "flags": {"mmap": ["MAP_HUGETLB"]},
    "fields": ["ret", "pt"],
    "locks": True,
    "root": False,
}
ARM = {"arch": "arm64", "page_bytes": 16384, "user_top": 1 << 47}


def test_a_hello_is_understood_as_it_is_said() -> None:
    assert Hello.parse(json.loads(HELLO.line())) == HELLO


@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=lambda g: g.name)
def test_a_model_says_which_page_tables_it_has(geometry: Geometry) -> None:
    assert hello(KERNEL.on(geometry)).page_tables() == geometry


@pytest.mark.parametrize(
    ("more", "geometry"),
    [
        ({}, "x86-64"),
        ({"user_top": (1 << 56) - 4096}, "x86-64-la57"),
        ({"keys": True}, "x86-64-pku"),
        (ARM, "arm64-16k-47"),
        (ARM | {"user_top": 1 << 52}, "arm64-16k-52"),
        (
            {"arch": "i386", "user_top": 0xC0000000, "levels": 3, "arena": [0, 1 << 31]},
            "i386-pae-2g",
        ),
    ],
)
def test_the_geometry_of_a_machine(more: dict[str, Any], geometry: str) -> None:
    assert Hello.parse(MACHINE | more).page_tables().name == geometry


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"hello": 2}, "speaks version 2 of the protocol, this is 1"),
        ({"arch": "vax"}, "unknown architecture 'vax'"),
        ({"calls": "mmap"}, "its hello has 'calls': 'mmap', not a list"),
        ({"root": 1}, "its hello has 'root': 1, not a bool"),
        ({"user_top": 1 << 46}, "no geometry of x86-64 has pages of 4096 bytes, "),
        ({"arena": [1 << 43, 1 << 39]}, "its arena begins at 0x80000000000, that of x86-64 at "),
    ],
)
def test_a_hello_that_is_none_says_why(more: dict[str, Any], why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        Hello.parse(MACHINE | more).abilities()


def test_what_a_machine_lacks_is_missing() -> None:
    able = Hello.parse(MACHINE | {"arena": [1 << 44, 0x400000]}).abilities()
    text = "mmap(0x200000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED{})\n"
    assert able.missing(parse(text.format(""))) == []
    assert able.missing(parse(text.format("|MAP_HUGETLB") + "fork()\n")) == ["MAP_HUGETLB", "fork"]
    assert able.missing(parse(text.format("").replace("0x1000", "0x200001"))) == [
        "addresses beyond 0x400000"
    ]


def asked(*lines: str, kernel: str = "linux-6.18") -> list[dict[str, Any]]:
    """What the model of a kernel says to these lines, without its hello."""
    said = io.BytesIO()
    serve(kernel_named(kernel), io.BytesIO("".join(lines).encode()), said)
    greeting, *answers = map(json.loads, said.getvalue().splitlines())
    assert greeting["hello"] == 1
    return answers


def test_every_case_of_the_corpus_survives_the_way_to_the_model_and_back() -> None:
    cases = [load(path) for path in sorted((ROOT / "corpus/regressions").glob("*.case"))]
    geometry, able = KERNEL.geometry, HELLO.abilities()
    programs = [case.program() for case in cases if case.geometry is None][::4]
    lines = [encode(str(n), case.calls, geometry, able).decode() for n, case in enumerate(programs)]
    *answers, bye = asked(*lines)
    assert bye == {"bye": len(programs)}
    for number, (case, answer) in enumerate(zip(programs, answers, strict=True)):
        answer.pop("us")
        seen = json.loads(json.dumps(Model(KERNEL).observe(case)))
        assert answer == {"id": str(number), **seen}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("a", "no TAB behind the name"),
        ("a\treboot 1", "unknown call"),
        ("a\ttouch 1", "wrong operands"),
        ("a\ttouch 1 x", "wrong operands"),
        ("a\tunlocked", "unknown call"),
    ],
)
def test_what_is_no_program_is_answered_by_the_reason(line: str, error: str) -> None:
    assert asked(line + "\n") == [{"id": "a", "error": error}, {"bye": 1}]


def test_what_is_skipped_stays_skipped() -> None:
    name, calls = decode("x\tskip;unlocked 100000200000 peek 100000200000 1000", KERNEL.geometry)
    assert name == "x"
    assert Model(KERNEL).observe(Case(calls))["ret"] == ["SKIP", {"segv": [[0x200, 1]]}]

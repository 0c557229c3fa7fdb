"""Rounds and their reports cross the wire, and what is not right is refused with the reason."""

import json
from dataclasses import replace
from typing import Any

import pytest

from fuzz.campaign.round import (
    Artifact,
    Cells,
    Crash,
    End,
    Hits,
    Met,
    OtherProgram,
    Report,
    Round,
    Suspect,
    program,
)
from fuzz.findings.bucket import Bucket
from fuzz.lib.plain import PlainError
from tests.lib.rounds import ROUND

BUCKET = Bucket("page-count", "mremap", "B-01")
REPORT = Report(
    ROUND.id,
    program(),
    execs=12,
    cells=(Cells("linux-6.1", 3),),
    hits=(Hits(BUCKET, "linux-6.1", 2),),
    findings=(Met(BUCKET, "page-count", "linux-6.1", "small", b"\x01", 5),),
    suspects=(Suspect(b"\x02", "linux-6.18", "x86-64", "timeout--mremap", 7),),
    crashes=(Crash(b"\x03", "", "KeyError: 1", "Traceback"),),
    new=(b"\x04",),
    inputs=(b"\x05" * 65,),
    end=End("killed by SIGKILL", "details", True, (Artifact("crash", b"\x06"),)),
)


def through(data: Any) -> Any:
    """What comes out at the other end of a wire."""
    return json.loads(json.dumps(data))


def test_a_round_comes_back() -> None:
    assert Round.parsed(through(ROUND.plain())) == ROUND


def test_a_report_comes_back() -> None:
    assert Report.parsed(through(REPORT.plain()), ROUND) == REPORT


def test_a_report_of_nothing_comes_back() -> None:
    nothing = Report(ROUND.id, program())
    assert Report.parsed(through(nothing.plain()), ROUND) == nothing


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kernels": ["linux-0.1"]}, "unknown kernel 'linux-0.1'"),
        ({"kernels": []}, "no kernel"),
        ({"like": "linux-9.9"}, "unknown kernel 'linux-9.9'"),
        ({"geometries": ["vax"], "focus": ["vax"]}, "unknown geometry 'vax'"),
        ({"focus": ["tiny"]}, "a focus that is no geometry"),
        ({"calls": ["reboot"]}, "unknown 'reboot'"),
        ({"flags": ["-fork=2"]}, "-fork=2 does not work here"),
        ({"rules_after": "never"}, "'never' is none of"),
        ({"seed": "7"}, "round.seed: str in place of int"),
    ],
)
def test_what_is_no_round_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(PlainError, match=why):
        Round.parsed({**through(ROUND.plain()), **change})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"round": "a-2"}, "'a-2' in place of 'a-1'"),
        ({"execs": -1}, "a count below 0"),
        ({"cells": [{"kernel": "linux-7.3", "seen": 1}]}, "'linux-7.3' is no kernel"),
        ({"inputs": ["A" * 4 * 23]}, "69 bytes, where 65 are allowed"),
        ({"inputs": ["?"]}, r"report.inputs\[0\]: no base64"),
        (
            {
                "hits": [
                    {
                        "bucket": {"rule": "../x", "call": "m", "defect": ""},
                        "kernel": "",
                        "times": 1,
                    }
                ]
            },
            "is not the name of a finding",
        ),
        (
            {
                "end": {
                    "why": "",
                    "details": "",
                    "outside": False,
                    "artifacts": [{"kind": "../../etc", "input": ""}],
                    "lost": False,
                }
            },
            "nothing that libFuzzer keeps",
        ),
    ],
)
def test_what_is_no_report_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(PlainError, match=why):
        Report.parsed({**through(REPORT.plain()), **change}, ROUND)


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(
        OtherProgram, match=f"another version of pmdfuzz .ffff, here {program()[:12]}"
    ):
        Round.parsed({**through(ROUND.plain()), "program": "ffff", "more": 1})
    with pytest.raises(OtherProgram, match="install the same one"):
        Report.parsed(through(replace(REPORT, program="ffff").plain()), ROUND)


def test_the_name_of_an_artifact_is_made_of_its_content() -> None:
    assert Artifact("oom", b"").name == "oom-da39a3ee5e6b4b0d3255bfef95601890afd80709"

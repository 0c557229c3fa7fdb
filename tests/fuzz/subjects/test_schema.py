"""Observations are as their schema says: of the model, of this machine, of the recordings."""

import json
from typing import Any

import pytest

from engine.base.kernel import kernel_named
from fuzz.forms.text import load, parse
from fuzz.subjects.host import Host
from fuzz.subjects.model import Model
from fuzz.subjects.observe import FIELDS, OPTIONAL
from fuzz.subjects.recordings import recordings
from fuzz.subjects.subject import SubjectError
from tests.lib.constants import ROOT

jsonschema = pytest.importorskip("jsonschema")
SCHEMA = json.loads((ROOT / "fuzz" / "subjects" / "observation.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
RECORDINGS = sorted((ROOT / "corpus" / "truth").glob("*.xz"))
CASES = sorted((ROOT / "corpus" / "regressions").glob("*uffd*.case"))[:10]
EVENTS = "UFFD_FEATURE_EVENT_REMAP|UFFD_FEATURE_EVENT_UNMAP"
ALL = f"""
@limit as 0x10000000
mmap(0x0, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
mmap(0x10000, 0x4000, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED)
touch(0x3000, 0x2000)
fork()
uffd_register(0x10000, 0x4000, UFFDIO_REGISTER_MODE_WP, {EVENTS})
uffd_wp(0x10000, 0x4000, 1)
mremap(0x10000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x20000)
munmap(0x20000, 0x1000)
mseal(0x0, 0x1000)
munmap(0x0, 0x1000)
"""


def wrong(observation: Any) -> list[str]:
    return [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(observation)]


def test_the_schema_is_one_and_names_all_fields() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert {*FIELDS, *OPTIONAL} <= set(SCHEMA["properties"])
    assert all("description" in field for field in SCHEMA["properties"].values())


def test_what_the_model_shows() -> None:
    model = Model(kernel_named("linux-6.18"))
    shown = [model.observe(load(path)) for path in CASES]
    assert shown
    assert [wrong({"id": "", **one}) for one in shown] == [[]] * len(shown)


def test_what_this_machine_shows() -> None:
    try:
        host = Host()
    except SubjectError as error:
        pytest.skip(str(error))
    with host:
        case = parse(ALL)
        if refused := host.able.refusal(case):
            pytest.skip(refused)
        shown = host.observe(case)
    assert wrong(shown) == []
    assert set(FIELDS) <= shown.keys()
    assert shown["events"] and shown["wp"] and shown["flags"]


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.name)
def test_what_is_recorded(path: Any) -> None:
    assert [found for _, one in recordings(path) for found in wrong(one)] == []


@pytest.mark.parametrize(
    "change",
    [
        {"ret": ["EINVAL"]},
        {"ret": [{"sigill": [[1, 1]]}]},
        {"vmas": [[0, 4096, "rw"]]},
        {"pages": [[0, 1, "Q", 0]]},
        {"wp": [[1]]},
        {"flags": ["lo zz"]},
        {"events": [["remap", 1, 2]]},
        {"crash": "killed by SIGSEGV"},
    ],
)
def test_what_is_not_an_observation(change: dict[str, Any]) -> None:
    right = {"id": "a", "ret": [0], "vmas": [], "pages": []}
    assert wrong(right) == []
    assert wrong({**right, **change}) != []

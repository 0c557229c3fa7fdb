"""Exceptions that cross a process survive it: what they say, and what they know."""

import ast
import pickle
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from engine.base.address import Range
from tests.lib.constants import ROOT

# An argument of each name that exceptions of this project are made with.
ARGUMENTS = {
    "advice": "do this",
    "column": 3,
    "error": "EFAULT",
    "expected": "this",
    "file": "a.case",
    "found": "that",
    "kind": "kernel",
    "known": ["linux-6.1"],
    "line": 2,
    "name": "linux-0.1",
    "offset": 4,
    "path": Path("a.case"),
    "reason": "No space left on device",
    "rule": "page-count",
    "source": "mremap(",
    "where": Range(0, 4096),
    "who": "process 1",
    "why": "it is so",
}


def exceptions() -> Iterator[tuple[str, str, list[str]]]:
    """Module, name and arguments of each class of exceptions that has an `__init__` of its own."""
    for path in sorted([*(ROOT / "engine").rglob("*.py"), *(ROOT / "fuzz").rglob("*.py")]):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            bases = {ast.unparse(base) for base in getattr(node, "bases", [])}
            if any(base.endswith(("Error", "Exception")) for base in bases):
                assert isinstance(node, ast.ClassDef)
                module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
                for one in node.body:
                    if isinstance(one, ast.FunctionDef) and one.name == "__init__":
                        yield module, node.name, [name.arg for name in one.args.args[1:]]


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [pytest.param(*found, id=found[1]) for found in exceptions()],
)
def test_an_exception_comes_back_as_it_was(module: str, name: str, arguments: list[str]) -> None:
    error = getattr(import_module(module), name)(*(ARGUMENTS[one] for one in arguments))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error) != ""
    assert {key: getattr(again, key) for key in vars(error)} == vars(error)


def test_there_are_some() -> None:
    assert {"CaseError", "UnknownName", "Violation", "WriteError"} <= {
        name for _, name, _ in exceptions()
    }

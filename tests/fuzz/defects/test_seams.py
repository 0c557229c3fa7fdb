"""Seams: every patch of the museum replaces a function that is marked, and none is in vain."""

import ast
from collections.abc import Iterator

from engine.base.seam import seam
from fuzz.defects.catalogue import EXHIBITS
from tests.lib.constants import ROOT


def marked(tree: ast.AST, within: str = "") -> Iterator[str]:
    """The qualified names of the functions in a module that are seams."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.ClassDef(name=name):
                yield from marked(node, f"{within}{name}.")
            case ast.FunctionDef(name=name, decorator_list=decorators):
                if any(isinstance(d, ast.Name) and d.id == seam.__name__ for d in decorators):
                    yield within + name


def modules(package: str) -> Iterator[tuple[str, ast.AST]]:
    """The names and the contents of the modules of a package."""
    for path in sorted((ROOT / package).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name, ast.parse(path.read_text(encoding="utf-8"), path)


SEAMS = {f"{module}:{name}" for module, tree in modules("engine") for name in marked(tree)}


def test_every_patch_is_of_a_seam_and_every_seam_is_patched() -> None:
    assert {exhibit.change.target for exhibit in EXHIBITS if exhibit.change} == SEAMS


def test_nobody_has_a_seam_under_a_name_of_its_own() -> None:
    """A name that was imported stays bound to the function of before."""
    for package in ("engine", "fuzz"):
        for module, tree in modules(package):
            for node in ast.walk(tree):
                if isinstance(node, ast.ImportFrom):
                    names = {f"{node.module}:{alias.name}" for alias in node.names}
                    assert not names & SEAMS, module


def test_a_seam_is_the_function_itself() -> None:
    def function() -> None: ...

    assert seam(function) is function


def test_seams_are_found_in_functions_and_classes() -> None:
    source = """
@seam
def one(): ...
class Two:
    @property
    @seam
    def three(self): ...
    def four(self): ...
"""
    assert list(marked(ast.parse(source))) == ["one", "Two.three"]

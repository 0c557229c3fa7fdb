"""The layout of the project: who may import whom, and what lies at the top of the repository.

Imports are read from the syntax tree, so a module is judged without running it.  Imports for
type checkers alone do not count: they exist to name a type, not to use what is above.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the ground up: a module of the engine imports only from lines above its own.
ENGINE_LAYERS = (
    {"address"},
    {"geometry", "violation", "failures", "limits"},
    {"kernel"},
    {"entry", "frames", "observer"},
    {"table", "vma"},
    {"merge", "tlb", "pool"},
    {"space"},
    {"move", "rmap", "protect", "facts", "access"},
    {"cow", "uffd", "hugetlb"},
    {"huge"},
    {"fault", "collapse"},
    {"mremap", "stack", "seal"},
    {"syscalls", "madvise", "reclaim", "fork", "leaves", "rules_view", "rules_tlb", "rules_walk"},
    {"rules_places", "rules_layout"},
    {"rules_limits"},
    {"rules_entry"},
    {"rules", "rules_state", "rules_move", "rules_errors", "draw"},
    {"rules_call"},
    {"rules_mapping"},
)
ENGINE_RANKS = {name: rank for rank, layer in enumerate(ENGINE_LAYERS) for name in layer}

# What modules of the fuzzer may import of the project where that is limited: they see nothing else.
FUZZ_SEES = {
    "fuzz.oracle": {"fuzz.case", "fuzz.memory", "engine.address"},
    "fuzz.memory": set(),
    "fuzz.export": {"fuzz.case", "fuzz.export"},
}
# What they get as an argument, and so must not import.
FUZZ_MUST_NOT_SEE = {
    "fuzz.minimize": {"fuzz.execute", "fuzz.run"},
    "fuzz.findings": {"fuzz.execute", "fuzz.run"},
}

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "ARCHITECTURE.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "corpus",
    "engine",
    "fuzz",
    "pyproject.toml",
    "tests",
}


class Import(NamedTuple):
    """One imported module."""

    module: str  # absolute; starts with a dot if it was written relative
    line: int
    late: bool  # inside a function: happens when it is called


def read_imports(tree: ast.AST, *, late: bool = False) -> Iterator[Import]:
    """Every import below `tree` that happens at run time, `import_module("name")` included."""
    match tree:
        case ast.Import(names=names, lineno=line):
            for alias in names:
                yield Import(alias.name, line, late)
        case ast.ImportFrom(module=module, names=names, level=level, lineno=line):
            base = "." * level + (module or "")
            # `from package import module` imports the module, `from module import name` does not.
            is_package = not level and ROOT.joinpath(*base.split(".")).is_dir()
            for alias in names:
                yield Import(f"{base}.{alias.name}" if is_package else base, line, late)
        case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
            for child in tree.orelse:
                yield from read_imports(child, late=late)
        case _:
            match tree:
                case ast.Call(
                    func=ast.Name(id="import_module" | "__import__")
                    | ast.Attribute(attr="import_module"),
                    args=[ast.Constant(value=str(name)), *_],
                    lineno=line,
                ):
                    yield Import(name, line, late)
            late = late or isinstance(tree, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for child in ast.iter_child_nodes(tree):
                yield from read_imports(child, late=late)


def imports_of(path: Path) -> list[Import]:
    """The imports of a file."""
    return list(read_imports(ast.parse(path.read_text(encoding="utf-8"), str(path))))


def module_name(path: Path) -> str:
    """`fuzz.export.c` for fuzz/export/c.py; a package for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def inside(module: str, package: str) -> bool:
    """True if `module` is `package` or lies in it."""
    return module == package or module.startswith(package + ".")


def python_files(*folders: str) -> list[Path]:
    """All Python files in the folders, in a stable order."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def each_file(*folders: str) -> pytest.MarkDecorator:
    """Runs a test once for every Python file in the folders."""
    files = python_files(*folders)
    return pytest.mark.parametrize("path", files, ids=[str(f.relative_to(ROOT)) for f in files])


def objections_to_engine_module(module: str, imports: list[Import]) -> list[str]:
    """What breaks the import rule of the engine, one line each."""
    name = module.split(".")[1]
    if name not in ENGINE_RANKS:
        return [f"{module} has no place yet: put it into ENGINE_LAYERS in {Path(__file__).name}"]
    objections = []
    for found in imports:
        target = found.module
        if inside(target, "engine"):
            below = target.partition(".")[2].partition(".")[0]
            if below == name:
                continue  # within one package
            if below not in ENGINE_RANKS:
                why = "is not a module of ENGINE_LAYERS"
            elif ENGINE_RANKS[below] >= ENGINE_RANKS[name]:
                why = "is not below it"
            else:
                continue
        elif target.partition(".")[0] in sys.stdlib_module_names | {"sortedcontainers"}:
            continue
        else:
            why = "is neither engine, standard library nor sortedcontainers"
        objections.append(f"{module} line {found.line}: imports {target}, which {why}")
    return objections


def objections_to_fuzz_module(module: str, imports: list[Import]) -> list[str]:
    """What breaks the import rule of the fuzzer, one line each."""
    objections = []
    for found in imports:
        target = found.module
        ours = inside(target, "fuzz") or inside(target, "engine")
        for limited, seen in FUZZ_SEES.items():
            if inside(module, limited) and ours and not any(inside(target, one) for one in seen):
                objections.append(f"{module} line {found.line}: imports {target}, may see {seen}")
        for limited, unseen in FUZZ_MUST_NOT_SEE.items():
            if inside(module, limited) and any(inside(target, one) for one in unseen):
                objections.append(f"{module} line {found.line}: imports {target}, must be given it")
        if inside(target, "atheris"):
            if module == "fuzz.feedback" and found.late:
                continue  # its counters exist only once the harness has loaded Atheris
            if module != "fuzz.harness":
                objections.append(f"{module} line {found.line}: only fuzz.harness imports atheris")
        if inside(target, "fuzz.harness") and not found.late:
            objections.append(f"{module} line {found.line}: imports {target}, and so atheris")
    return objections


@each_file("engine")
def test_engine_imports_only_what_is_below(path: Path) -> None:
    if path.name == "__init__.py" and path.parent == ROOT / "engine":
        return  # empty, as another test sees to
    objections = objections_to_engine_module(module_name(path), imports_of(path))
    assert not objections, "\n".join(objections)


@each_file("fuzz")
def test_fuzz_modules_see_what_they_may(path: Path) -> None:
    objections = objections_to_fuzz_module(module_name(path), imports_of(path))
    assert not objections, "\n".join(objections)


@each_file("engine", "fuzz", "corpus", "tests")
def test_imports_are_absolute(path: Path) -> None:
    assert [found for found in imports_of(path) if found.module.startswith(".")] == []


@each_file("engine", "fuzz")
def test_imports_are_declared(path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"]["fuzz"]]
    names = {requirement.split(">")[0] for requirement in declared}
    if path.is_relative_to(ROOT / "fuzz" / "mutants"):
        names.add("pytest")  # which it runs, where it is installed
    known = sys.stdlib_module_names | names | {"engine", "fuzz"}
    imported = {found.module.partition(".")[0] for found in imports_of(path)}
    assert imported - known - {""} == set()


def test_packages_have_empty_init_files() -> None:
    for path in python_files("engine", "fuzz"):
        assert (path.parent / "__init__.py").is_file(), f"{path.parent} is not a package"
        if path.name == "__init__.py":
            assert path.read_bytes() == b"", f"{path} is not empty"


@pytest.mark.skipif(not (ROOT / "fuzz" / "cli.py").exists(), reason="no command line")
@pytest.mark.parametrize(
    ("package", "why"),
    [
        ("atheris", "most commands work where it has no wheel"),
        ("rich", "it is slow to load, and needed only once there is something to show"),
    ],
)
def test_command_line_starts_without(package: str, why: str) -> None:
    program = "import sys, fuzz.cli; print(*{name.partition('.')[0] for name in sys.modules})"
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    loaded = run.stdout.split()
    assert "fuzz" in loaded
    assert package not in loaded, why


def test_top_level_of_the_repository() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    git = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.partition("/")[0] for name in listed.split("\0") if name} - TOP_LEVEL == set()


# The tests above pass when nothing is found; these show that there is something to find.


def test_every_form_of_import_is_read() -> None:
    source = """
import engine.move as m, os.path
from engine import table
from engine.space import AddressSpace
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from engine.draw import draw
else:
    import fuzz.run
try:
    from . import text
except ImportError:
    pass
def f():
    import atheris
    importlib.import_module("engine.rules")
"""
    assert list(read_imports(ast.parse(source))) == [
        Import("engine.move", 2, False),
        Import("os.path", 2, False),
        Import("engine.table", 3, False),
        Import("engine.space", 4, False),
        Import("typing", 5, False),
        Import("fuzz.run", 9, False),
        Import(".", 11, False),
        Import("atheris", 15, True),
        Import("engine.rules", 16, True),
    ]


@pytest.mark.parametrize(
    ("module", "target", "allowed"),
    [
        ("engine.move", "engine.space", True),
        ("engine.move", "sortedcontainers", True),
        ("engine.rules", "engine.syscalls", True),
        ("engine.move", "engine.mremap", False),
        ("engine.mremap", "engine.stack", False),
        ("engine.table", "engine.vma", False),
        ("engine.syscalls", "engine.rules", False),
        ("engine.move", "engine", False),
        ("engine.move", "fuzz.case", False),
        ("engine.move", "rich", False),
        ("engine.newcomer", "engine.address", False),
    ],
)
def test_engine_rule_separates(module: str, target: str, allowed: bool) -> None:
    assert (objections_to_engine_module(module, [Import(target, 1, False)]) == []) is allowed


@pytest.mark.parametrize(
    ("module", "target", "late", "allowed"),
    [
        ("fuzz.execute", "engine.draw", False, True),
        ("fuzz.oracle", "fuzz.case", False, True),
        ("fuzz.oracle", "engine.address", False, True),
        ("fuzz.oracle", "engine.space", True, False),
        ("fuzz.oracle", "fuzz.execute", False, False),
        ("fuzz.minimize", "fuzz.execute", False, False),
        ("fuzz.findings", "fuzz.run", True, False),
        ("fuzz.findings", "fuzz.case", False, True),
        ("fuzz.export.c", "fuzz.case", False, True),
        ("fuzz.export.c", "fuzz.export.names", False, True),
        ("fuzz.export.c", "engine.kernel", False, False),
        ("fuzz.harness", "atheris", False, True),
        ("fuzz.feedback", "atheris", True, True),
        ("fuzz.feedback", "atheris", False, False),
        ("fuzz.cli", "atheris", True, False),
        ("fuzz.run", "fuzz.harness", False, False),
    ],
)
def test_fuzz_rule_separates(module: str, target: str, late: bool, allowed: bool) -> None:
    assert (objections_to_fuzz_module(module, [Import(target, 1, late)]) == []) is allowed

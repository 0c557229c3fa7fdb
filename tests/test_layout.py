"""The layout of the project: who may import whom, and what lies at the top of the repository.

Imports are read from the syntax tree, so a module is judged without running it.  All of them count:
those inside functions, and those for type checkers alone, too.
"""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

import pytest

import fuzz.mutants.__main__ as mutants
from fuzz.museum import results
from tests.lib.constants import ROOT

# A room is a folder, or a module that lies beside the folders.  Imports point down this list;
# within a room they form no circle.
ROOMS = (
    "fuzz.cli",
    "fuzz.bench",
    "fuzz.contest",
    "fuzz.exhaust",
    "fuzz.museum",
    "fuzz.mutants",
    "fuzz.reach",
    "fuzz.campaign",
    "fuzz.mail",
    "fuzz.report",
    "fuzz.export",
    "fuzz.subjects",
    "fuzz.vm",
    "fuzz.picture",
    "fuzz.tell",
    "fuzz.syz",
    "fuzz.strace",
    "fuzz.harm",
    "fuzz.showing",
    "fuzz.defects",
    "fuzz.inputs",
    "fuzz.asserted",
    "fuzz.bounded",
    "fuzz.execute",
    "fuzz.matrix",
    "fuzz.noted",
    "fuzz.findings",
    "fuzz.forms",
    "fuzz.minimize",
    "fuzz.rules",
    "fuzz.oracle",
    "fuzz.calls",
    "fuzz.case",
    "fuzz.lib",
    "engine.mremap",
    "engine.stack",
    "engine.calls",
    "engine.move_vma",
    "engine.remap",
    "engine.move_hugetlb",
    "engine.pages",
    "engine.move",
    "engine.vmas",
    "engine.state",
    "engine.base",
)
# What a room sees of the project besides itself, where that is less than all below it.
SEES = {
    "fuzz.oracle": (
        "engine.base.address",
        "engine.base.uapi",
        "fuzz.case",
    ),
    "fuzz.forms": ("engine.base", "fuzz.calls", "fuzz.case"),
    "fuzz.minimize": ("engine.base", "fuzz.calls", "fuzz.case"),
    "fuzz.lib": (),
    "fuzz.vm": ("fuzz.lib",),
    "fuzz.findings": ("fuzz.case", "fuzz.forms", "fuzz.lib", "fuzz.minimize"),
}
ENGINE_NEEDS = sys.stdlib_module_names | {"engine", "sortedcontainers"}
HARNESS = "fuzz.campaign.harness"
# Those that import Atheris, and who may import them: for the others it need not be there.
FUZZING: dict[str, tuple[str, ...]] = {
    HARNESS: ("fuzz.contest.ours",),
    "fuzz.contest.ours": ("fuzz.contest.player",),
    "fuzz.contest.provider": ("fuzz.contest.player",),
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
    "findings",
    "fuzz",
    "pyproject.toml",
    "tests",
}


class Import(NamedTuple):
    """One imported module, and where; it starts with a dot if it was written relative."""

    module: str
    line: int


Imports = Mapping[str, Sequence[Import]]  # by module


def read_imports(tree: ast.AST) -> Iterator[Import]:
    """Every import below `tree`, `import_module("name")` included."""
    match tree:
        case ast.Import(names=names, lineno=line):
            for alias in names:
                yield Import(alias.name, line)
        case ast.ImportFrom(module=module, names=names, level=level, lineno=line):
            base = "." * level + (module or "")
            # `from package import module` imports the module, `from module import name` does not.
            is_package = not level and ROOT.joinpath(*base.split(".")).is_dir()
            for alias in names:
                yield Import(f"{base}.{alias.name}" if is_package else base, line)
        case _:
            match tree:
                case ast.Call(
                    func=ast.Name(id="import_module" | "__import__")
                    | ast.Attribute(attr="import_module"),
                    args=[ast.Constant(value=str(name)), *_],
                    lineno=line,
                ):
                    yield Import(name, line)
            for child in ast.iter_child_nodes(tree):
                yield from read_imports(child)


def python_files(*folders: str) -> list[Path]:
    """All Python files in the folders, in a stable order."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    """`fuzz.forms.text` for fuzz/forms/text.py; a package for its __init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports_of(path: Path) -> tuple[Import, ...]:
    """What one file imports."""
    return tuple(read_imports(ast.parse(path.read_text(encoding="utf-8"), path)))


def survey(*folders: str) -> Imports:
    """What the Python files in the folders import."""
    return {module_name(path): imports_of(path) for path in python_files(*folders)}


def inside(module: str, package: str) -> bool:
    """True if `module` is `package` or lies in it."""
    return module == package or module.startswith(package + ".")


def room_of(module: str) -> str | None:
    """The room that a module of the project is or lies in."""
    return next((room for room in ROOMS if inside(module, room)), None)


def each_import(imports: Imports) -> Iterator[tuple[str, str, str]]:
    """Of each import of the project itself: the module, what it imports, and where."""
    for module, imported in imports.items():
        for found in imported:
            if found.module.startswith(("engine.", "fuzz.")):
                yield module, found.module, f"{module} line {found.line}: imports {found.module}"


def objections_to_direction(imports: Imports) -> Iterator[str]:
    """Which modules have no room, and which imports do not point down."""
    for module in imports:
        if room_of(module) is None and module not in ("engine", "fuzz", "fuzz.__main__"):
            yield f"{module} has no room yet: put it into one, or the new one into ROOMS"
    for module, target, where in each_import(imports):
        room, below = room_of(module), room_of(target)
        if below is None:
            yield f"{where}, which is in no room"
        elif room is not None and ROOMS.index(below) < ROOMS.index(room):
            yield f"{where}, which lies above"


def objections_to_circles(imports: Imports) -> Iterator[str]:
    """The first circle of imports that there is."""
    graph: dict[str, set[str]] = {}
    for module, target, _ in each_import(imports):
        graph.setdefault(module, set()).add(target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        yield " <- ".join(error.args[1])


def objections_to_sight(imports: Imports) -> Iterator[str]:
    """Which imports reach what their room does not see, or what nobody may import."""
    for module, target, where in each_import(imports):
        room = room_of(module)
        if room in SEES and not any(inside(target, seen) for seen in (room, *SEES[room])):
            yield f"{where}, but {room} sees only {', '.join(SEES[room]) or 'itself'}"
        if module not in FUZZING.get(target, (module,)):
            yield f"{where}, and so atheris"
    for module, imported in imports.items():
        for found in imported:
            package = found.module.partition(".")[0]
            if inside(module, "engine") and package not in ENGINE_NEEDS:
                yield f"{module} line {found.line}: the engine does without {found.module}"
            if package == "atheris" and module not in FUZZING:
                yield f"{module} line {found.line}: only {', '.join(FUZZING)} import atheris"


def test_imports_point_down() -> None:
    assert list(objections_to_direction(survey("engine", "fuzz"))) == []


def test_imports_form_no_circle() -> None:
    assert list(objections_to_circles(survey("engine", "fuzz"))) == []


def test_rooms_see_what_they_may() -> None:
    assert list(objections_to_sight(survey("engine", "fuzz"))) == []


def reached(imports: Imports, *modules: str) -> set[str]:
    """The modules, and all of the project that they import, themselves or through others."""
    found: set[str] = set()
    left = list(modules)
    while left:
        module = left.pop()
        if module not in found and module in imports:
            found.add(module)
            left += [target.module for target in imports[module]]
    return found


@pytest.mark.parametrize(
    ("places", "modules"),
    [
        (results.DECIDES, (HARNESS, "fuzz.minimize.search")),
        (mutants.JUDGES, ("fuzz.execute", "fuzz.inputs.mutator")),
    ],
    ids=["museum", "mutants"],
)
def test_results_are_kept_only_while_what_decides_them_stays(
    places: Sequence[str], modules: Sequence[str]
) -> None:
    hashed = [place.removesuffix(".py").replace("/", ".") for place in places]
    for module in reached(survey("engine", "fuzz"), *modules):
        decides = room_of(module) is not None and not inside(module, "fuzz.lib")
        assert not decides or any(inside(module, place) for place in hashed), module


def test_rooms_exist() -> None:
    for room in ROOMS:
        place = ROOT.joinpath(*room.split("."))
        assert place.is_dir() or place.with_suffix(".py").is_file(), room


def test_the_engine_is_pure_python() -> None:
    """Compiled, it would not notice that a seam is replaced (`engine.base.seam`)."""
    suffixes = {path.suffix for path in (ROOT / "engine").rglob("*") if path.is_file()}
    assert suffixes <= {".py", ".pyc", ".md"}


def test_imports_are_absolute() -> None:
    for name, imported in survey("engine", "fuzz", "corpus", "tests").items():
        assert [found for found in imported if found.module.startswith(".")] == [], name


def test_tests_import_no_test() -> None:
    for name, imported in survey("tests", "corpus").items():
        others = {found.module for found in imported if inside(found.module, "tests")}
        assert all(inside(other, "tests.lib") for other in others), f"{name}: {others}"


def test_imports_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    optional = [one for name, extra in extras.items() if name != "dev" for one in extra]
    declared = [*project["dependencies"], *optional]
    known = sys.stdlib_module_names | {requirement.split(">")[0] for requirement in declared}
    for name, imported in survey("engine", "fuzz").items():
        packages = {found.module.partition(".")[0] for found in imported} - {"engine", "fuzz"}
        if inside(name, "fuzz.mutants"):
            packages -= {"pytest"}  # which it runs, where it is installed
        assert packages <= known, name


def test_packages_have_empty_init_files() -> None:
    for path in python_files("engine", "fuzz"):
        assert (path.parent / "__init__.py").is_file(), f"{path.parent} is not a package"
        if path.name == "__init__.py":
            assert path.read_bytes() == b"", f"{path} is not empty"


@pytest.mark.parametrize(
    ("package", "why"),
    [
        ("atheris", "most commands work where it has no wheel"),
        ("distributed", "it is slow to load, and an extra"),
        ("jinja2", "it is needed only once there is a page to make"),
        ("rich", "it is slow to load, and needed only once there is something to show"),
    ],
)
def test_command_line_starts_without(package: str, why: str) -> None:
    program = "import sys, fuzz.cli.main; print(*{name.partition('.')[0] for name in sys.modules})"
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
        Import("engine.move", 2),
        Import("os.path", 2),
        Import("engine.table", 3),
        Import("engine.space", 4),
        Import("typing", 5),
        Import("engine.draw", 7),
        Import("fuzz.run", 9),
        Import(".", 11),
        Import("atheris", 15),
        Import("engine.rules", 16),
    ]


def importing(module: str, *targets: str) -> Imports:
    """A project of one module."""
    return {module: [Import(target, 1) for target in targets]}


@pytest.mark.parametrize(
    ("module", "target", "allowed"),
    [
        ("engine.move", "engine.state.space", True),
        ("engine.stack", "engine.move", True),
        ("engine.move", "engine.mremap", False),
        ("engine.base.address", "engine.move", False),
        ("engine.state.table", "fuzz.case", False),
        ("engine.newcomer", "engine.base.address", False),
        ("engine.move", "engine.newcomer", False),
        ("fuzz.minimize.search", "fuzz.execute", False),
        ("fuzz.findings.ledger", "fuzz.campaign.run", False),
        ("fuzz.execute", "fuzz.rules.judge", True),
        ("fuzz.newcomer", "fuzz.case", False),
    ],
)
def test_direction_separates(module: str, target: str, allowed: bool) -> None:
    assert (list(objections_to_direction(importing(module, target))) == []) is allowed


def test_circles_are_found() -> None:
    there, back = importing("engine.move", "engine.stack"), importing("engine.stack", "engine.move")
    assert list(objections_to_circles(there)) == []
    (circle,) = objections_to_circles({**there, **back})
    assert "engine.move <- engine.stack" in circle


@pytest.mark.parametrize(
    ("module", "target", "allowed"),
    [
        ("fuzz.oracle.oracle", "fuzz.case", True),
        ("fuzz.oracle.oracle", "engine.base.address", True),
        ("fuzz.oracle.oracle", "engine.state.space", False),
        ("fuzz.forms.text", "fuzz.execute", False),
        ("fuzz.minimize.search", "fuzz.execute", False),
        ("engine.move", "sortedcontainers", True),
        ("engine.move", "rich", False),
        ("fuzz.campaign.harness", "atheris", True),
        ("fuzz.campaign.feedback", "atheris", False),
        ("fuzz.campaign.run", "fuzz.campaign.harness", False),
    ],
)
def test_sight_separates(module: str, target: str, allowed: bool) -> None:
    assert (list(objections_to_sight(importing(module, target))) == []) is allowed

"""Which places of the model an input is the first to reach, as libFuzzer gets to know it.

(What a whole corpus reaches, for people to read, `pmdfuzz coverage` tells: `fuzz.reach`.)

A place is a run of instructions with one way in: the arm of a branch, the body of a loop, what
follows either, a handler of exceptions.  With `sys.monitoring` (PEP 669, Python 3.12) each place is
told once, and then costs nothing: the event of an instruction is switched off where it has fired.
Instructions are watched, not lines: a line has several arms (`a and b`, `x if y else z`).  The one
arm that has no instruction, the missing `else`, gets a `pass` on the line of its condition when a
module is compiled, so that tracebacks and debuggers show the lines of the file.

Atheris' own instrumentation, calls in the bytecode that are paid for ever, serves on Python 3.11.
"""

import ast
import contextlib
import dis
import importlib.abc
import importlib.util
import marshal
import os
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from fuzz.lib.files import WriteError, write_atomic

MONITORED = sys.version_info >= (3, 12)
HOW = "sys.monitoring" if MONITORED else "Atheris' bytecode"
_PACKAGE = "engine"
_NAME = "pmdfuzz"
# Debuggers, coverage.py, profilers, Hypothesis and optimizers take 0, 1, 2, 3 and 5.
_TOOLS = (4, 3, 1, 2, 0)
_COMPILED = "arms1"  # in the names of compiled files; another number when `_Arms` changes


class CoverageError(Exception):
    """The model cannot be covered; the message says why and what to do."""


@contextlib.contextmanager
def covered(atheris: Any) -> Iterator[list[CodeType]]:
    """Cover the modules of the model that are imported inside.

    Yields: the code of their functions, for `watch`; nothing where Atheris does it all.
    """
    codes: list[CodeType] = []
    if not MONITORED:
        with atheris.instrument_imports(include=[_PACKAGE]):
            yield codes
        return
    finder = _Finder(codes)
    sys.meta_path.insert(0, finder)
    try:
        yield codes
    finally:
        sys.meta_path.remove(finder)


def watch(atheris: Any, codes: Sequence[CodeType]) -> Callable[[], None]:
    """Tell libFuzzer of each place in the codes when it is reached for the first time.

    Other tools may switch events on again, as coverage.py and Hypothesis do: nothing is told twice.
    Returns: what makes it tell of all places again.
    Errors raised: CoverageError if other tools have taken every tool id.
    """
    if sys.version_info < (3, 12):
        return lambda: None
    monitoring = sys.monitoring
    tool = next((number for number in _TOOLS if monitoring.get_tool(number) is None), None)
    if tool is None:
        owners = ", ".join(f"{number}: {monitoring.get_tool(number)}" for number in _TOOLS)
        raise CoverageError(f"no tool id of sys.monitoring is free ({owners}); end one of them")
    # By identity, as hashing a code object takes microseconds: the number of its first place, where
    # its places start, and the code itself, which this keeps alive.
    places: dict[int, tuple[int, list[int], CodeType]] = {}
    number = 0
    for code in codes:
        starts = place_starts(code)
        places[id(code)] = number, starts, code
        number += len(starts)
    # One more than is used: the last counter of all never reaches libFuzzer.
    counters = [atheris._reserve_counter() for _ in range(number + 1)]
    told: set[int] = set()

    def reached(code: CodeType, offset: int) -> object:
        first, starts, _ = places[id(code)]
        place = first + bisect_right(starts, offset) - 1
        if place not in told:
            told.add(place)
            atheris._trace_branch(counters[place])  # looked up here: Fuzz() replaces it
        return monitoring.DISABLE

    event = monitoring.events.INSTRUCTION
    monitoring.use_tool_id(tool, _NAME)
    monitoring.register_callback(tool, event, reached)
    for code in codes:
        monitoring.set_local_events(tool, code, event)

    def again() -> None:
        told.clear()
        monitoring.restart_events()

    return again


def place_starts(code: CodeType) -> list[int]:
    """Where the places of a code object start: byte offsets of instructions, in order."""
    starts = [0]
    leads = False  # the instruction before it goes elsewhere, or may
    for instruction in dis.get_instructions(code):
        if instruction.offset and (leads or instruction.is_jump_target):
            starts.append(instruction.offset)
        leads = instruction.opcode in _JUMPS or instruction.opname in _ENDS
    return starts


_JUMPS = frozenset((*dis.hasjrel, *dis.hasjabs))
# Behind these, handlers of exceptions start, which to dis.get_instructions are no jump targets.
_ENDS = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")


class _Arms(ast.NodeTransformer):
    """Gives an arm of its own to whatever a branch does without."""

    def _otherwise(self, node: Any, condition: ast.expr) -> Any:
        self.generic_visit(node)
        if not node.orelse:
            node.orelse = [ast.copy_location(ast.Pass(), condition)]
        return node

    def visit_If(self, node: ast.If) -> Any:
        return self._otherwise(node, node.test)

    def visit_While(self, node: ast.While) -> Any:
        return self._otherwise(node, node.test)

    def visit_For(self, node: ast.For) -> Any:
        return self._otherwise(node, node.iter)


def compiled(source: bytes | str, path: str) -> CodeType:
    """The code of a module in which every arm of a branch has an instruction.

    Errors raised: SyntaxError.
    """
    tree = _Arms().visit(ast.parse(source, path))
    code: CodeType = compile(tree, path, "exec", dont_inherit=True)
    return code


class _Loader(SourceFileLoader):
    """Compiles a module with its arms, or takes what was compiled before."""

    def __init__(self, name: str, path: str, codes: list[CodeType]) -> None:
        super().__init__(name, path)
        self._codes = codes

    def get_code(self, fullname: str) -> CodeType:
        """The code of the module.

        Beside what Python itself compiles, in its format for files that are checked by their
        source, lies the same with arms.
        """
        path = self.get_filename(fullname)
        source = self.get_data(path)
        head = importlib.util.MAGIC_NUMBER + b"\3\0\0\0" + importlib.util.source_hash(source)
        cache = Path(importlib.util.cache_from_source(path, optimization=_COMPILED))
        with contextlib.suppress(OSError, EOFError, ValueError, TypeError):
            kept = cache.read_bytes()
            if kept.startswith(head):
                cached: CodeType = marshal.loads(kept[len(head) :])
                return cached
        code = compiled(source, path)
        if not sys.dont_write_bytecode:
            with contextlib.suppress(OSError, WriteError):
                os.makedirs(cache.parent, exist_ok=True)
                write_atomic(cache, head + marshal.dumps(code))
        return code

    def exec_module(self, module: ModuleType) -> None:
        """Run the module; its functions are to be covered."""
        code = self.get_code(module.__name__)
        self._codes.extend(inside(code))
        exec(code, module.__dict__)


def inside(code: CodeType) -> Iterator[CodeType]:
    """The code of the functions and classes in a code object, without that of annotations.

    Python 3.14 makes a function of these (PEP 649); no program calls it.
    """
    for const in code.co_consts:
        if isinstance(const, CodeType) and const.co_name != "__annotate__":
            yield const
            yield from inside(const)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the modules of the model."""

    def __init__(self, codes: list[CodeType]) -> None:
        self._codes = codes

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(f"{_PACKAGE}."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(fullname, spec.loader.path, self._codes)
        return spec

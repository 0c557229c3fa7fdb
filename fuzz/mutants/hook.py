"""Importing a mutant in place of a module; no file is changed."""

import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from fuzz.mutants.mutate import Mutant, source_path


class _Loader(SourceFileLoader):
    """Compiles other text than the file holds."""

    def __init__(self, module: str, path: Path, text: bytes) -> None:
        super().__init__(module, str(path))
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self._text, self.path, "exec", dont_inherit=True)
        return code


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module."""

    def __init__(self, module: str, path: Path, text: bytes) -> None:
        self._module, self._path, self._text = module, path, text

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        loader = _Loader(fullname, self._path, self._text)
        return importlib.util.spec_from_file_location(fullname, self._path, loader=loader)


def import_mutant(root: Path, mutant: Mutant) -> None:
    """From now on importing the module gives the mutant.  It must not have been imported yet."""
    assert mutant.module not in sys.modules, f"{mutant.module} was imported before its mutant"
    path = source_path(root, mutant.module)
    text = mutant.apply(path.read_bytes())
    sys.meta_path.insert(0, _Finder(mutant.module, path, text))

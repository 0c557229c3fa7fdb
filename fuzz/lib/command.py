"""Commands that are printed: pasted into the shell that this was called from, they work."""

import shlex
import shutil
import sys
from pathlib import Path

from fuzz.lib.lines import short

_NAME = "pmdfuzz"
_MODULE = "fuzz"


def command(*words: str | Path, of: str = _NAME) -> str:
    """The command line that calls this program, as it was called itself, with other words.

    Arguments: `words` a path is written as short as it can be from here; `of` another program that
    is installed beside this one, `pytest` for instance.
    """
    written = [short(word) if isinstance(word, Path) else word for word in words]
    return shlex.join([*_program(of), *written])


def elsewhere(*words: str) -> str:
    """The command line that calls this program where it is installed, for others to read."""
    return shlex.join((_NAME, *words))


def _program(name: str) -> list[str]:
    """How a program is called here: as a module, by its path, or simply by its name."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py" and path.parent.name == _MODULE:
        called = sys.orig_argv[: len(sys.orig_argv) - len(sys.argv) + 1]  # python -X dev -m fuzz
        module = _MODULE if name == _NAME else name
        return [*called[:-1], called[-1].removesuffix(_MODULE) + module]
    if path.name != _NAME:  # called by another program, as from a test
        return [name]
    found = shutil.which(name)
    path = path.with_name(name)
    return [name] if found and Path(found).resolve() == path.resolve() else [short(path)]

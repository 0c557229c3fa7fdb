"""Results of mutants, kept in one file of the working directory from run to run.

A result holds for the tree it was found on: the engine, what judges it, the inputs' number and
seed.  The file is replaced as a whole, so that Ctrl-C or a crash never leaves half of it.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from fuzz.lib.files import write_atomic
from fuzz.mutants.judge import Fate
from fuzz.mutants.mutate import Mutant

_WRITE_SECONDS = 2.0


class Store:
    """What is known of each mutant.  Call `flush` at the end."""

    def __init__(self, path: Path, tree: str, tests_tree: str, *, keep_kills: bool = False) -> None:
        self._path = path
        self._tree, self._tests_tree = tree, tests_tree
        self._keep_kills = keep_kills
        self._next_write = 0.0
        self._dirty = False
        self._known: dict[str, dict[str, Any]] = {}
        try:
            self._known = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except ValueError:
            print(f"{path}: not readable, starting over", file=sys.stderr)

    def fate(self, mutant: Mutant) -> Fate | None:
        """What rules and oracle said on this tree."""
        known = self._known.get(mutant.id, {})
        if "rules" not in known:
            return None
        fate = Fate(*known["rules"])
        if known["tree"] == self._tree or (self._keep_kills and fate.kind):
            return fate
        return None

    def tests(self, mutant: Mutant) -> str | None:
        """The test that failed on this tree, empty if none did."""
        known = self._known.get(mutant.id, {})
        if "tests" not in known:
            return None
        by = str(known["tests"])
        if known["tests_tree"] == self._tests_tree or (self._keep_kills and by):
            return by
        return None

    def put(self, mutant: Mutant, fate: Fate) -> None:
        """Keep what rules and oracle said."""
        self._known.setdefault(mutant.id, {}).update(tree=self._tree, rules=list(fate))
        self._changed()

    def put_tests(self, mutant: Mutant, by: str) -> None:
        """Keep what the tests said."""
        self._known.setdefault(mutant.id, {}).update(tests_tree=self._tests_tree, tests=by)
        self._changed()

    def forget(self, mutant: Mutant) -> None:
        """Judge this one again."""
        self._known.pop(mutant.id, None)

    def _changed(self) -> None:
        self._dirty = True
        if time.monotonic() >= self._next_write:
            self.flush()
            self._next_write = time.monotonic() + _WRITE_SECONDS

    def flush(self) -> None:
        """Write what is not written yet."""
        if self._dirty:
            write_atomic(self._path, json.dumps(self._known, indent=0, sort_keys=True) + "\n")
            self._dirty = False

"""Samples of the corpus, for rounds that do not see it: the newest inputs, and others at random."""

import hashlib
import random
from collections.abc import Iterable
from pathlib import Path

from fuzz.lib.files import write_atomic

_NEWEST, _OTHERS = 200, 300  # inputs; half a second's work


class Samples:
    """The inputs of a corpus, which is a folder; those that come in are written there.

    Seeds, in another folder, are as good as old inputs.
    """

    def __init__(self, corpus: Path, seeds: Path) -> None:
        self._corpus = corpus
        files = [*_oldest_first(seeds), *_oldest_first(corpus)]
        self._inputs = {_name(data): data for data in map(Path.read_bytes, files)}

    def add(self, inputs: Iterable[bytes]) -> None:
        """Keep inputs that others have found.  Errors raised: WriteError."""
        for data in inputs:
            name = _name(data)
            if name not in self._inputs:
                write_atomic(self._corpus / name, data, synced=False)
                self._inputs[name] = data

    def some(self) -> tuple[bytes, ...]:
        """A sample."""
        inputs = list(self._inputs.values())
        others, newest = inputs[:-_NEWEST], inputs[-_NEWEST:]
        return (*newest, *random.sample(others, min(len(others), _OTHERS)))


def _oldest_first(folder: Path) -> list[Path]:
    files = (path for path in folder.iterdir() if path.is_file())
    return sorted(files, key=lambda path: path.stat().st_mtime)


def _name(data: bytes) -> str:
    """What libFuzzer calls the file of an input."""
    return hashlib.sha1(data).hexdigest()

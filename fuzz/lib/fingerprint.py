"""Whether results still hold: a fingerprint of the files that decide them."""

import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

_HOME = Path(__file__).resolve().parents[2]  # a checkout, or where packages are installed


@cache  # what runs does not change with its files
def of_this_project() -> str:
    """That of all that runs here: `engine/`, `fuzz/` and the Python below them."""
    return fingerprint(_HOME, ("engine", "fuzz"))


def fingerprint(root: Path, places: Iterable[str], *more: object) -> str:
    """A digest of source files, of this Python's version, and of anything else that matters.

    Arguments: `places` are files below `root`, or folders, whose Python files and cases count;
    `more` is told apart by its repr.
    Errors raised: FileNotFoundError for a place that is not there, so that none gets lost when
    files move.
    """
    digest = hashlib.blake2b(repr((sys.version_info[:2], more)).encode(), digest_size=12)
    for path in sorted({path for place in places for path in _files(root / place)}):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _files(place: Path) -> list[Path]:
    if place.is_dir():
        return [path for path in place.rglob("*") if path.suffix in (".py", ".case")]
    if not place.exists():
        raise FileNotFoundError(place)
    return [place]

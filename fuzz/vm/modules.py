"""Modules that a machine needs, found beside its kernel, with what they need themselves."""

import gzip
import lzma
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fuzz.vm.errors import MachineError

_NAME = re.compile(r"(?P<name>.+)\.ko(\.(?P<packed>xz|gz|zst))?")
_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")


class Module(NamedTuple):
    """A module: its name, with _ for -, and its file's contents, unpacked."""

    name: str
    data: bytes


def modules_named(names: Sequence[str], folders: Iterable[Path]) -> list[Module]:
    """Those of the modules that are there, each behind what it needs.

    What is not there may be built in: the machine tells.
    Errors raised: MachineError if one cannot be unpacked.
    """
    files = _files(folders)
    loaded: dict[str, Module] = {}

    def load(name: str) -> None:
        if name in loaded or name not in files:
            return
        data = _unpacked(files[name])
        for needed in _needs(data):
            load(needed)
        loaded.setdefault(name, Module(name, data))

    for name in names:
        load(name)
    return list(loaded.values())


def _files(folders: Iterable[Path]) -> dict[str, Path]:
    """The file of each module in the folders."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in folder.rglob("*.ko*"):
            if match := _NAME.fullmatch(path.name):
                found.setdefault(_canonical(match["name"]), path)
    return found


def _needs(data: bytes) -> Iterator[str]:
    """Source: `depends` of .modinfo, scripts/mod/modpost.c add_depends()."""
    found = _DEPENDS.search(data)
    for name in found[1].decode().split(",") if found else ():
        if name:
            yield _canonical(name)


def _canonical(name: str) -> str:
    return name.replace("-", "_")


def _unpacked(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        match path.suffix:
            case ".xz":
                return lzma.decompress(data)
            case ".gz":
                return gzip.decompress(data)
            case ".zst":
                unpack = ["zstd", "--decompress", "--stdout"]
                return subprocess.run(unpack, input=data, capture_output=True, check=True).stdout
            case _:
                return data
    except FileNotFoundError:
        raise MachineError(f"{path}: needs zstd to unpack it: apt install zstd") from None
    except (OSError, EOFError, lzma.LZMAError, subprocess.CalledProcessError) as error:
        raise MachineError(f"{path}: does not unpack: {error}") from None

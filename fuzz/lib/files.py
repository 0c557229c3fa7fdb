"""Writing files so that a crash, Ctrl-C or a full disk never leaves half of one; none is lost."""

import contextlib
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path


class WriteError(Exception):
    """A file could not be written; what was there before is untouched."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: cannot write: {self.reason}"


def write_atomic(path: Path, data: str | bytes, *, synced: bool = True) -> None:
    """Replace the contents of `path`, as a whole or not at all; text is written as UTF-8.

    The data goes to a temporary file in the same directory, reaches the disk, and takes the name
    by rename.  A symbolic link stays one: the file it points to is replaced.  With `synced` false,
    which is a hundred times as fast, it is the system's affair when it reaches the disk: if the
    machine fails, there may be less in the file.  What is no file, as a pipe or /dev/null, stays
    what it is, and is written to.

    Errors raised: WriteError; `path` then still holds what it held, and nothing is left over.
    """
    content = data.encode() if isinstance(data, str) else data
    if _takes_what_comes(path):
        _write_into(path, content)
        return
    target = Path(os.path.realpath(path))
    # Unique over processes and calls; short, so that it fits wherever the final name does.
    temporary = target.parent / f".{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        # Not tempfile: it makes files that only their owner may read.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        raise WriteError(path, _reason(error)) from error
    try:
        try:
            _write_all(descriptor, content)
            if synced:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, target)
    except BaseException as error:  # Ctrl-C as well: the temporary file goes in any case
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise WriteError(path, _reason(error)) from error
        raise
    if synced:
        _sync_directory(target.parent)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which takes the name `target` at the end; all of it appears, or nothing.

    Errors raised: WriteError, also if `target` is there and not empty.
    """
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        scratch.chmod(0o777 & ~_umask())
        yield scratch
        scratch.rename(target)  # over an empty folder, too
    except OSError as error:
        raise WriteError(target, _reason(error)) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def names_aside(paths: Sequence[Path]) -> list[Path]:
    """Names that are free, for a file and those whose names begin with its name."""
    number = 1
    while (target := paths[0].with_name(f"{paths[0].name}.old-{number}")).exists():
        number += 1
    return [target.with_name(target.name + path.name[len(paths[0].name) :]) for path in paths]


def put_aside(paths: Sequence[Path]) -> list[Path]:
    """Put a file, and those whose names begin with its name, out of the way.

    Returns: their new names.
    Errors raised: WriteError.
    """
    targets = names_aside(paths)
    for path, target in zip(paths, targets, strict=True):
        try:
            path.rename(target)
        except OSError as error:
            raise WriteError(path, _reason(error)) from error
    return targets


def _takes_what_comes(path: Path) -> bool:
    """Is it a device, a pipe or the like, which has no contents that could be replaced?"""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _write_into(path: Path, content: bytes) -> None:
    """Write to what is there.  Errors raised: WriteError."""
    try:
        descriptor = os.open(path, os.O_WRONLY)
        try:
            _write_all(descriptor, content)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise WriteError(path, _reason(error)) from error


def _write_all(descriptor: int, content: bytes) -> None:
    """write(2) until all of it is written: one call may write less than it was given."""
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync_directory(directory: Path) -> None:
    """Make the rename last over a power cut, on file systems that can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _umask() -> int:
    """That of this process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _reason(error: OSError) -> str:
    return error.strerror or str(error)

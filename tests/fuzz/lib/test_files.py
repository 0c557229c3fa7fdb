"""Atomic writes: whole or not at all, whatever goes wrong."""

import errno
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from fuzz.lib.files import WriteError, write_atomic


def _full(descriptor: int, data: bytes) -> int:
    """write(2) on a disk with room for three bytes."""
    if len(data) <= 3:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return _write(descriptor, data[:3])


_write = os.write


def _raising(error: BaseException) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize("data", ["", "text\n", "µ\r\n", b"\x00\xff", b"x" * 3_000_000])
def test_writes_exactly_this(tmp_path: Path, data: str | bytes) -> None:
    path = tmp_path / "file"
    write_atomic(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert os.listdir(tmp_path) == ["file"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "write", lambda descriptor, data: _write(descriptor, data[:3]))
    write_atomic(tmp_path / "file", "a longer text")
    assert (tmp_path / "file").read_text() == "a longer text"


def test_replaces_and_follows_links(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old")
    link.symlink_to(real)
    write_atomic(link, "new")
    assert link.is_symlink() and real.read_text() == "new"


def test_others_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", "")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_disk_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, "write", _full)
    with pytest.raises(WriteError) as caught:
        write_atomic(path, "new text")
    assert str(caught.value) == f"{path}: cannot write: No space left on device"
    assert caught.value.path == path
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_the_kernel_refuses_more_bytes(tmp_path: Path) -> None:
    """The same without a monkey: a limit on the size of files, hit in the middle of a write."""
    path = tmp_path / "file"
    path.write_text("old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(WriteError, match="File too large"):
            write_atomic(path, b"x" * 10_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_need_not_last_over_a_power_cut_is_not_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _raising(AssertionError()))
    write_atomic(tmp_path / "file", "new", synced=False)
    assert (tmp_path / "file").read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_later_steps_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    monkeypatch.setattr(os, step, _raising(OSError(errno.EIO, "Input/output error")))
    with pytest.raises(WriteError, match="Input/output error"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", _raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("place", ["missing/file", "file/below"])
def test_no_such_place(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(WriteError, match="directory"):
        write_atomic(tmp_path / place, "new")


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="directory"):
        write_atomic(tmp_path, "new")
    assert tmp_path.is_dir() and not list(tmp_path.parent.glob(".*.tmp"))


def test_a_pipe_stays_one_and_gets_all(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_atomic(pipe, "all of it")
        assert os.read(reader, 100) == b"all of it"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


def test_a_device_that_takes_nothing_is_told() -> None:
    if not Path("/dev/full").is_char_device():
        pytest.skip("no /dev/full")
    with pytest.raises(WriteError, match="/dev/full: cannot write: No space left on device"):
        write_atomic(Path("/dev/full"), "x")
    assert Path("/dev/full").is_char_device()

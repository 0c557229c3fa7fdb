"""The case files: the simplest stays, and nothing is lost when things go wrong."""

import errno
import fcntl
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.calls.registry import call
from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import CaseStore, load_all
from fuzz.findings.ledger import Ledger
from fuzz.forms.text import dump, load
from fuzz.lib.files import WriteError

STACK = Bucket("dest-entry-none", "execve_stack")
MOVE = Bucket("page-count", "mremap")
LONG = Case((call("touch", 0, 0x5000), call("peek", 0, 0x5000)), kernel="linux-6.1")
SHORT = Case((call("touch", 0, 0x1000),), kernel="linux-6.12")


def _disk_full(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)


def test_keeps_the_simplest_case(tmp_path: Path) -> None:
    store = CaseStore(tmp_path / "new" / "work")
    path = tmp_path / "new" / "work" / "findings" / "dest-entry-none--execve_stack.case"
    assert store.path(STACK) == path
    assert store.load(STACK) is None
    assert store.load_all() == ({}, [])
    assert store.save(STACK, LONG)
    assert load(path) == LONG
    assert store.save(STACK, SHORT)
    assert not store.save(STACK, LONG)
    assert not store.save(STACK, SHORT)
    assert store.load(STACK) == SHORT
    assert store.save(MOVE, LONG)
    assert store.load_all().cases == {path: SHORT, store.path(MOVE): LONG}
    assert not store.unsaved
    assert sorted(os.listdir(path.parent)) == [path.name, store.path(MOVE).name]


def test_what_a_finding_leads_to_lies_beside_it_and_is_no_finding(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.save(STACK, SHORT)
    assert store.load_harm(STACK) is None
    for case in (LONG, SHORT, LONG):
        store.save_harm(STACK, case)
    assert store.load_harm(STACK) == SHORT
    assert store.harm_path(STACK).name == "dest-entry-none--execve_stack.harm.case"
    assert list(store.load_all().cases) == [store.path(STACK)]
    with Ledger.open(tmp_path) as ledger:
        assert [finding.bucket for finding in ledger.list()] == [STACK]
    store.harm_path(STACK).write_text("touch(0x0,\n")
    with pytest.raises(WriteError, match="not a case"):
        store.save_harm(STACK, LONG)
    (error,) = store.load_all().errors
    assert error.file == str(store.harm_path(STACK))


def test_a_case_takes_the_place_of_ours_before_but_of_no_other_simpler_one(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.save(STACK, SHORT)
    assert store.save(STACK, LONG, instead_of=SHORT)
    assert store.load(STACK) == LONG
    assert store.save(STACK, replace(LONG, found=("later",)), instead_of=LONG)
    CaseStore(tmp_path).save(STACK, SHORT)
    assert not store.save(STACK, LONG, instead_of=LONG)
    assert store.load(STACK) == SHORT


def test_disk_full_keeps_the_case_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CaseStore(tmp_path)
    store.save(STACK, LONG)
    with monkeypatch.context() as full:
        _disk_full(full)
        with pytest.raises(WriteError) as caught:
            store.save(STACK, SHORT)
        assert caught.value.path == store.path(STACK)
        assert caught.value.reason == "No space left on device"
    assert store.unsaved == {STACK: SHORT}
    assert store.load(STACK) == LONG
    assert os.listdir(store.directory) == [store.path(STACK).name]
    # There is room again, and the next sighting has a longer case: the better one is not lost.
    assert store.save(STACK, LONG)
    assert store.load(STACK) == SHORT
    assert not store.unsaved


def test_no_directory_to_write_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    store = CaseStore(tmp_path / "file" / "work")
    with pytest.raises(WriteError, match="Not a directory"):
        store.save(STACK, SHORT)
    assert store.unsaved == {STACK: SHORT}


def test_a_file_that_is_no_case_is_not_replaced(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.save(STACK, LONG)
    store.path(STACK).write_text("touch(0x0,\n")
    with pytest.raises(WriteError, match="not a case"):
        store.save(STACK, SHORT)
    assert store.path(STACK).read_text() == "touch(0x0,\n"
    assert store.unsaved == {STACK: SHORT}


def test_a_case_saved_meanwhile_is_seen(tmp_path: Path) -> None:
    """Looking at the file and replacing it is one step; other processes wait."""
    store = CaseStore(tmp_path)
    store.save(STACK, LONG)
    other = os.open(store.directory, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    longer = Case((*LONG.calls, *LONG.calls))
    store.path(STACK).write_text(dump(longer))
    written: list[bool] = []
    saver = threading.Thread(target=lambda: written.append(store.save(STACK, LONG)))
    saver.start()
    saver.join(0.3)
    assert saver.is_alive(), "does not wait"
    store.path(STACK).write_text(dump(SHORT))
    os.close(other)
    saver.join()
    assert written == [False]
    assert store.load(STACK) == SHORT


def test_load_all_goes_on_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    good = [tmp_path / "b.case", tmp_path / "deep" / "a.case"]
    for path in good:
        path.write_text(dump(SHORT))
    (tmp_path / "a.case").write_text("touch(0x0, 0x1000)\nnonsense(\n")
    (tmp_path / "c.case").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "d.case").mkdir()
    (tmp_path / "README.md").write_text("no case, and none expected")
    cases, errors = load_all(tmp_path)
    assert cases == dict.fromkeys(good, SHORT)
    assert [Path(error.file).name for error in errors] == ["a.case", "c.case", "d.case"]
    assert errors[0].line == 2


def test_load_all_of_nothing(tmp_path: Path) -> None:
    cases, errors = load_all(tmp_path / "missing")
    assert not cases
    assert "not a directory" in str(errors[0])


def test_damaged_cases_are_put_aside(tmp_path: Path) -> None:
    store = CaseStore(tmp_path)
    store.save(MOVE, SHORT)
    store.path(STACK).write_text("touch(0x0,\n")
    other = store.directory / "no name of ours.case"
    other.write_text("nonsense(")
    ((bucket, why),) = store.put_aside()
    assert bucket == STACK
    target = store.path(STACK).with_name(f"{STACK.name}.case.old-1")
    assert str(store.path(STACK)) in why and why.endswith(f"Moved to {target}")
    assert target.read_text() == "touch(0x0,\n"
    assert other.read_text() == "nonsense("
    assert store.load(STACK) is None and store.load(MOVE) == SHORT
    store.save(STACK, LONG)
    assert store.put_aside() == []

"""`pmdfuzz vm check`: what is said of a kernel; the machine is `tests/lib/fake_qemu.py`."""

import os
from pathlib import Path

import pytest

from fuzz.cli.main import main
from fuzz.lib.exits import BAD_INPUT, FINE
from tests.lib import fake_qemu
from tests.lib.images import RELEASE, bzimage


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = fake_qemu.installed(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_CALLS", "munmap")  # which has no accidents
    path = tmp_path / f"vmlinuz-{RELEASE}"
    path.write_bytes(bzimage())
    return path


def has(output: str) -> dict[str, str]:
    """What the kernel has."""
    lines = [line for line in output.splitlines() if line.startswith("  ")]
    return {line[2:42].strip(): line[42:] for line in lines}


def test_a_running_kernel_is_asked(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vm", "check", str(image), "--cases", "20"]) == FINE
    output = capsys.readouterr().out
    assert "machine     x86-64, x86-64, by " in output
    assert "according to the running kernel" in output
    assert has(output)["userfaultfd"] == "no"
    assert has(output)["whole PTE tables move"].startswith("not known")
    assert "not measured: MAP_HUGETLB, for want of CONFIG_HUGETLBFS" in output
    assert "mremap" in output.splitlines()[-1]  # the agent there cannot ask for it
    assert "cannot ask for that" in output.splitlines()[-1]


def test_a_configuration_is_read(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = image.with_name(f"config-{RELEASE}")
    config.write_text("CONFIG_HAVE_MOVE_PMD=y\n# CONFIG_HAVE_MOVE_PUD is not set\n")
    assert main(["vm", "check", str(image.parent), "--cases", "5"]) == FINE
    output = capsys.readouterr().out
    assert "according to the configuration beside the image" in output
    assert has(output)["whole PTE tables move"] == "yes"
    assert has(output)["whole PMD tables move"] == "no"


def test_no_kernel_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vm", "check", str(tmp_path)]) == BAD_INPUT
    assert "no kernel in it" in capsys.readouterr().err

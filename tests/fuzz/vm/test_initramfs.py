"""The archive that a machine boots: what cpio(1) finds in it, and what init is told to do."""

import gzip
import lzma
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from fuzz.vm.errors import MachineError
from fuzz.vm.image import Image
from fuzz.vm.initramfs import Entry, archive, initramfs
from fuzz.vm.modules import modules_named


def test_cpio_reads_the_archive() -> None:
    if shutil.which("cpio") is None:
        pytest.skip("cpio is not installed")
    entries = [
        Entry("dev", stat.S_IFDIR | 0o755),
        Entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1)),
        Entry("odd", stat.S_IFREG | 0o644, b"12345"),
    ]
    done = subprocess.run(
        ["cpio", "--list", "--verbose", "--quiet"],
        input=archive(entries),
        capture_output=True,
        check=True,
    )
    lines = [line.split() for line in done.stdout.decode().splitlines()]
    assert [(words[0], words[-1]) for words in lines] == [
        ("drwxr-xr-x", "dev"),
        ("crw-------", "dev/console"),
        ("-rw-r--r--", "odd"),
    ]


def module(depends: str) -> bytes:
    return b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0"


def modules_in(folder: Path) -> None:
    folder.mkdir()
    (folder / "virtio_console.ko.xz").write_bytes(lzma.compress(module("virtio,virtio-ring")))
    (folder / "virtio_ring.ko.gz").write_bytes(gzip.compress(module("")))
    (folder / "virtio.ko").write_bytes(module("virtio_ring"))
    (folder / "brd.ko").write_bytes(module(""))
    (folder / "other.ko").write_bytes(module(""))


def test_a_module_comes_behind_what_it_needs(tmp_path: Path) -> None:
    modules_in(tmp_path / "modules")
    found = modules_named(("virtio_console", "not_there"), [tmp_path / "modules"])
    assert [one.name for one in found] == ["virtio_ring", "virtio", "virtio_console"]
    assert found[0].data == module("")


def test_a_module_that_does_not_unpack_is_told(tmp_path: Path) -> None:
    (tmp_path / "brd.ko.xz").write_bytes(b"nothing")
    with pytest.raises(MachineError, match=r"brd\.ko\.xz: does not unpack"):
        modules_named(("brd",), [tmp_path])


@pytest.mark.parametrize(
    ("config", "with_modules", "said"),
    [
        ("", False, []),
        ("", True, ["insmod /brd.ko rd_nr=1 rd_size=262144", "mkswap /dev/ram0"]),
        ("CONFIG_BLK_DEV_RAM=y\n", False, ["mkswap /dev/ram0"]),
        (
            "CONFIG_ZRAM=y\n",
            False,
            ["write /sys/block/zram0/disksize 268435456", "mkswap /dev/zram0"],
        ),
    ],
)
def test_a_machine_swaps_on_what_there_is(
    tmp_path: Path, config: str, with_modules: bool, said: list[str]
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"ELF")
    modules_in(tmp_path / "modules")
    folders = (tmp_path / "modules",) if with_modules else ()
    image = Image(tmp_path / "vmlinuz", "x86-64", "6.12", config, folders)
    packed = initramfs(image, program, program, ["/agent", "-t", "10"], 7)
    setup = packed[packed.index(b"setup\0") :].decode(errors="replace")
    about = ("insmod /brd", "mkswap", "write /sys/block")
    lines = [line for line in setup.splitlines() if line.startswith(about)]
    assert lines == said
    device = f" -w {said[-1].split()[-1]}" if said else ""
    assert f"recycle 7\nrun /agent -t 10{device} -x -g\n" in setup

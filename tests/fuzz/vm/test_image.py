"""What an image is: the kernel in it, and what lies beside it."""

from pathlib import Path

import pytest

from fuzz.vm.errors import MachineError
from fuzz.vm.image import image_at
from tests.lib.images import RELEASE, arm64, bzimage


@pytest.mark.parametrize(
    ("data", "arch"),
    [(bzimage(), "x86-64"), (bzimage(is_64=False), "i386"), (arm64(), "arm64")],
    ids=["x86-64", "i386", "arm64"],
)
def test_an_image_says_what_it_is(tmp_path: Path, data: bytes, arch: str) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(data)
    image = image_at(path)
    assert (image.arch, image.release, image.config, image.modules) == (arch, RELEASE, "", ())


def packed(root: Path, *names: str) -> None:
    """Files of an unpacked package."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bzimage() if "vmlinuz" in name or "bzImage" in name else b"CONFIG_X=y\n")


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        (
            [
                f"boot/vmlinuz-{RELEASE}",
                f"boot/config-{RELEASE}",
                f"lib/modules/{RELEASE}/brd.ko",
            ],
            f"lib/modules/{RELEASE}",
        ),
        (
            [f"vmlinuz-{RELEASE}", f"config-{RELEASE}", f"modules-{RELEASE}/kernel/brd.ko"],
            f"modules-{RELEASE}",
        ),
        (["arch/x86/boot/bzImage", ".config", "drivers/block/brd.ko"], "drivers"),
    ],
    ids=["package", "files of one", "kernel tree"],
)
def test_what_lies_beside_it_is_found(tmp_path: Path, files: list[str], modules: str) -> None:
    packed(tmp_path, *files)
    for place in (tmp_path, tmp_path / files[0]):
        image = image_at(place)
        assert image.setting("X") == "y"
        assert image.setting("Y") is None
        assert image.modules == (tmp_path / modules,)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a kernel image"),
        (b"text" * 1000, "neither a bzImage"),
        (b"\x7fELF" + bytes(1000), "vmlinux"),
        (bzimage(paragraphs=4096)[:5000], "cut off: 5000 of"),
        (b"\x1f\x8b" + bytes(1000), "damaged"),
        (arm64()[:0x250], "without the kernel's banner"),
        (b"MZ\0\0zimg" + bytes(1000), "vmlinuz.efi"),
    ],
)
def test_what_is_none_is_told(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(data)
    with pytest.raises(MachineError, match=said):
        image_at(path)


def test_a_place_without_an_image_is_told(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="no such file"):
        image_at(tmp_path / "none")
    with pytest.raises(MachineError, match="no kernel in it"):
        image_at(tmp_path)
    packed(tmp_path, "vmlinuz-6.1", "vmlinuz-6.2")
    with pytest.raises(MachineError, match=r"several.*vmlinuz-6\.1, vmlinuz-6\.2"):
        image_at(tmp_path)

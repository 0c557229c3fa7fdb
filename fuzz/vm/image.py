"""A kernel that is to run in a virtual machine: its image, and what lies beside it."""

import gzip
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from fuzz.vm.errors import MachineError

# Where the image lies in the build directory of a kernel tree, and in an unpacked package.
_BUILT = ("arch/x86/boot/bzImage", "arch/arm64/boot/Image")
_PACKED = ("vmlinuz-*", "boot/vmlinuz-*", "vmlinuz", "boot/vmlinuz", "usr/lib/modules/*/vmlinuz")
_SETUP_SECTOR_BYTES = 512
_SETUP_SECTORS, _SYSSIZE, _BOOT_MAGIC, _VERSION, _XLOADFLAGS = 0x1F1, 0x1F4, 0x202, 0x20E, 0x236
_XLF_KERNEL_64 = 1
_ARM64_MAGIC = 56  # offset of "ARM\x64"
_ARM64_FLAGS = 24  # offset
_LEAST_BYTES = 0x240
_GZIP, _ZBOOT = b"\x1f\x8b", b"zimg"


@dataclass(frozen=True, slots=True)
class Image:
    """A kernel: its image, for which architecture (`x86-64`, `i386` or `arm64`), which release.

    `config` is the text of its configuration, "" where none lies beside it; `modules` are the
    folders in which its modules may be; `page_bytes` are those of a page.
    """

    path: Path
    arch: str
    release: str
    config: str = ""
    modules: tuple[Path, ...] = ()
    page_bytes: int = 4096

    def setting(self, option: str) -> str | None:
        """What the configuration says of an option, without CONFIG_: "y", "m", a value.

        Returns: None if it is not set, or not known.
        """
        found = re.search(rf"^CONFIG_{option}=(.*)$", self.config, re.MULTILINE)
        return found[1].strip('"') if found else None


def image_at(path: Path) -> Image:
    """The kernel at a path: an image, a folder with an unpacked package, or a build directory.

    Errors raised: MachineError if there is none, or it cannot be told which one.
    """
    if not path.exists():
        raise MachineError(f"{path}: there is no such file or folder")
    file = _in_folder(path) if path.is_dir() else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise MachineError(f"{file}: cannot read: {error.strerror}") from None
    arch, release, page_bytes = _identified(file, data)
    config, modules = _beside(file.resolve(), release)
    return Image(file, arch, release, config, modules, page_bytes)


def _in_folder(folder: Path) -> Path:
    """The one image in a folder."""
    found = [folder / name for name in _BUILT if (folder / name).is_file()]
    found = found or sorted({path for name in _PACKED for path in folder.glob(name)})
    if not found:
        raise MachineError(
            f"{folder}: no kernel in it: neither vmlinuz-RELEASE, boot/vmlinuz-RELEASE (a package, "
            f"unpacked with dpkg -x), nor {' or '.join(_BUILT)} (a kernel tree that was built)"
        )
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise MachineError(f"{folder}: several kernels in it, name one: {names}")
    return found[0]


def _identified(file: Path, data: bytes) -> tuple[str, str, int]:
    """Architecture and release of an image, and the bytes of its pages.

    Source: Documentation/arch/x86/boot.rst, Documentation/arch/arm64/booting.rst.
    """
    if len(data) < _LEAST_BYTES:
        raise MachineError(f"{file}: not a kernel image: {len(data)} bytes")
    if data[_BOOT_MAGIC : _BOOT_MAGIC + 4] == b"HdrS":
        return (*_bzimage(file, data), 4096)
    if data[:2] == _GZIP:
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            raise MachineError(f"{file}: cut off, or damaged: it does not unpack") from None
    if data[_ARM64_MAGIC : _ARM64_MAGIC + 4] == b"ARM\x64":
        return "arm64", _arm64_release(file, data), 4096 << 2 * (_arm64_pages(data) - 1)
    if data[:2] == b"MZ" and data[4:8] == _ZBOOT:
        raise MachineError(
            f"{file}: an image that unpacks itself under EFI (vmlinuz.efi): "
            "build arch/arm64/boot/Image, or turn CONFIG_EFI_ZBOOT off"
        )
    if data[:4] == b"\x7fELF":
        raise MachineError(
            f"{file}: an ELF file (vmlinux?): take arch/x86/boot/bzImage or arch/arm64/boot/Image"
        )
    raise MachineError(f"{file}: neither a bzImage (x86) nor an Image (arm64)")


def _bzimage(file: Path, data: bytes) -> tuple[str, str]:
    sectors = data[_SETUP_SECTORS] or 4
    paragraphs = int.from_bytes(data[_SYSSIZE : _SYSSIZE + 4], "little")
    size = (sectors + 1) * _SETUP_SECTOR_BYTES + 16 * paragraphs
    if len(data) < size:
        raise MachineError(f"{file}: cut off: {len(data)} of {size} bytes")
    is_64 = int.from_bytes(data[_XLOADFLAGS : _XLOADFLAGS + 2], "little") & _XLF_KERNEL_64
    start = 0x200 + int.from_bytes(data[_VERSION : _VERSION + 2], "little")
    text = data[start : data.find(b"\0", start)].decode(errors="replace")
    if not text:
        raise MachineError(f"{file}: a bzImage that does not say which release it is")
    return ("x86-64" if is_64 else "i386"), text.split()[0]


def _arm64_pages(data: bytes) -> int:
    """1: of 4 KiB, 2: of 16, 3: of 64; what is not told are 4."""
    return (data[_ARM64_FLAGS] >> 1 & 3) or 1


def _arm64_release(file: Path, data: bytes) -> str:
    found = re.search(rb"Linux version (\S+) \(", data)
    if not found:
        raise MachineError(f"{file}: cut off: an arm64 Image without the kernel's banner")
    return found[1].decode(errors="replace")


def _beside(file: Path, release: str) -> tuple[str, tuple[Path, ...]]:
    """The configuration that lies beside an image, and folders in which its modules may be."""
    folder = file.parent
    tree = next((above for above in folder.parents[:3] if (above / ".config").is_file()), None)
    configs = [tree / ".config"] if tree else []
    modules = [tree / "drivers", tree / "mm"] if tree else []
    configs += [folder / f"config-{release}", folder / "config"]
    modules += [
        folder / f"modules-{release}",
        folder / "modules",
        *(above / "lib/modules" / release for above in (folder, folder.parent)),
        *(above / "usr/lib/modules" / release for above in (folder, folder.parent)),
    ]
    text = ""
    for config in configs:
        if config.is_file():
            text = config.read_text(encoding="utf-8", errors="replace")
            break
    return text, tuple(path for path in modules if path.is_dir())

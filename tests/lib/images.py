"""Images of kernels: files that look like some, and real ones that were put ready."""

import contextlib
import os
from pathlib import Path

from fuzz.vm.errors import MachineError
from fuzz.vm.image import image_at

FOLDER = "PMDFUZZ_IMAGES"  # in the environment: the folder where real ones are

RELEASE = "6.12.0-test"


def bzimage(*, is_64: bool = True, release: str = RELEASE, paragraphs: int = 64) -> bytes:
    """The beginning of Documentation/arch/x86/boot.rst's header, and as many bytes as it says."""
    data = bytearray(0x400)
    data[0x1F1] = 1
    data[0x1F4:0x1F8] = paragraphs.to_bytes(4, "little")
    data[0x202:0x206] = b"HdrS"
    data[0x20E:0x210] = (0x100).to_bytes(2, "little")
    data[0x236] = is_64
    text = f"{release} (me) #1\0".encode()
    data[0x300 : 0x300 + len(text)] = text
    return bytes(data) + bytes(16 * paragraphs)


def arm64(release: str = RELEASE) -> bytes:
    return bytes(56) + b"ARM\x64" + bytes(0x300) + f"Linux version {release} (me)".encode()


def real_images() -> list[Path]:
    """What `vm:` can boot of the folder that the environment names: images, or folders with one."""
    if not (named := os.environ.get(FOLDER)):
        return []
    found = []
    for path in (Path(named), *sorted(Path(named).glob("*"))):
        with contextlib.suppress(MachineError):
            image_at(path)
            found.append(path)
    return found[:1] if found[:1] == [Path(named)] else found

"""The root file system of a machine: an archive with init, the agent, and what sets it up.

Written here rather than by cpio(1): a console's device needs no root so, and nothing is to be
installed.
"""

import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fuzz.vm.image import Image
from fuzz.vm.modules import modules_named

_HUGE_PAGES = {4096: 32, 16384: 8}  # of hugetlb, by the size of a page: 64 and 256 MiB
SWAP_BYTES = 256 << 20
_CONSOLE, _KMSG = (5, 1), (1, 11)  # major, minor; Documentation/admin-guide/devices.txt
_PORT = ("virtio_pci", "virtio_console")
_THP = "/sys/kernel/mm/transparent_hugepage"
_OURS = ("-x", "-g")  # the agent tells all there is, and may change settings of the whole machine
# What the model takes for granted, and calls need; a kernel without one of these does without it.
_SETTINGS = (
    ("/proc/sys/kernel/printk_devkmsg", "on"),  # what init says is never held back
    ("/proc/sys/vm/overcommit_memory", "1"),
    ("/proc/sys/vm/page-cluster", "0"),  # what is swapped in is what was asked for
    ("/proc/sys/vm/swappiness", "100"),
    ("/proc/sys/vm/unprivileged_userfaultfd", "1"),
    (f"{_THP}/enabled", "madvise"),
    (f"{_THP}/defrag", "madvise"),
    (f"{_THP}/shmem_enabled", "never"),
    (f"{_THP}/use_zero_page", "1"),
    (f"{_THP}/khugepaged/scan_sleep_millisecs", "4000000"),
    (f"{_THP}/khugepaged/alloc_sleep_millisecs", "4000000"),
    ("/sys/kernel/mm/ksm/run", "0"),
)


class Entry(NamedTuple):
    """A file of the archive; `device` has major and minor number of one that is a device."""

    name: str
    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


def archive(entries: Iterable[Entry]) -> bytes:
    """The files as a cpio archive.

    Source: Documentation/driver-api/early-userspace/buffer-format.rst, "newc".
    """
    packed = bytearray()
    last = Entry("TRAILER!!!", 0)
    for number, entry in enumerate((*entries, last), start=1):
        name = entry.name.encode() + b"\0"
        fields = (
            0 if entry is last else number,
            entry.mode,
            0,  # user
            0,  # group
            1,  # links
            0,  # time
            len(entry.data),
            0,  # the device that it lies on: major, minor
            0,
            *entry.device,
            len(name),
            0,  # checksum
        )
        packed += b"070701" + b"".join(b"%08X" % value for value in fields) + name
        packed += bytes(-len(packed) % 4)
        packed += entry.data
        packed += bytes(-len(packed) % 4)
    return bytes(packed)


def initramfs(image: Image, init: Path, agent: Path, command: Sequence[str], recycle: int) -> bytes:
    """The archive that a kernel boots.

    Arguments: `agent` is to be /agent, and `command` starts it, anew after `recycle` cases.
    Errors raised: MachineError if a module that is there cannot be unpacked; OSError.
    """
    swap, modules = _swap(image), [*_PORT]
    if swap:
        modules.append(swap)
    found = modules_named(modules, image.modules)
    setup = [f"insmod /{module.name}.ko {_OPTIONS.get(module.name, '')}" for module in found]
    setup += [f"write {path} {text}" for path, text in _SETTINGS]
    setup.append(f"write /proc/sys/vm/nr_hugepages {_HUGE_PAGES.get(image.page_bytes, 0)}")
    if swap == "zram":
        setup.append(f"write /sys/block/zram0/disksize {SWAP_BYTES}")
    if swap:
        setup.append(f"mkswap {_SWAP_DEVICES[swap]}")
        command = (*command, "-w", _SWAP_DEVICES[swap])
    setup += [f"recycle {recycle}", " ".join(("run", *command, *_OURS))]
    return archive(
        (
            Entry("dev", stat.S_IFDIR | 0o755),
            Entry("dev/console", stat.S_IFCHR | 0o600, device=_CONSOLE),
            Entry("dev/kmsg", stat.S_IFCHR | 0o600, device=_KMSG),
            Entry("init", stat.S_IFREG | 0o755, init.read_bytes()),
            Entry("agent", stat.S_IFREG | 0o755, agent.read_bytes()),
            Entry("setup", stat.S_IFREG | 0o644, "".join(f"{x}\n" for x in setup).encode()),
            *(Entry(f"{name}.ko", stat.S_IFREG | 0o644, data) for name, data in found),
        )
    )


# --- Swap -----------------------------------------------------------------------------------------

_SWAP_DEVICES = {"brd": "/dev/ram0", "zram": "/dev/zram0"}
_SWAP_OPTIONS = {"brd": "BLK_DEV_RAM", "zram": "ZRAM"}
_OPTIONS = {"brd": f"rd_nr=1 rd_size={SWAP_BYTES >> 10}", "zram": "num_devices=1"}


def _swap(image: Image) -> str | None:
    """On what the machine may swap: a RAM disk, else compressed memory; None: it has neither."""
    for name, option in _SWAP_OPTIONS.items():
        if image.setting(option) == "y" or modules_named((name,), image.modules):
            return name
    return None

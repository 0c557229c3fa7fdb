"""Which qemu runs a kernel, and how it is told what machine to make."""

import os
import platform
import shutil
from dataclasses import dataclass

from fuzz.vm.errors import MachineError
from fuzz.vm.image import Image

_MEMORY_MIB = {4096: 1024, 16384: 2048, 65536: 4096}  # by the bytes of a page
KVM, TCG = "kvm", "tcg"
_TRANSLATED_MIB = 256  # of code, under emulation
# Of each architecture: qemu, the package that has it, machine type, console, and whose KVM runs it.
_QEMU = {
    "x86-64": ("qemu-system-x86_64", "qemu-system-x86", "pc", "ttyS0", "x86_64"),
    "i386": ("qemu-system-x86_64", "qemu-system-x86", "pc", "ttyS0", "x86_64"),
    "arm64": (
        "qemu-system-aarch64",
        "qemu-system-arm",
        "virt",
        "ttyAMA0",
        "aarch64",
    ),
}
# What of a CPU decides about the page tables that a kernel has; what is usual comes first.
_CPUS = {
    "x86-64": {"x86-64": "la57=off", "x86-64-la57": "la57=on"},
    "i386": {"i386-pae-2g": "", "i386": ""},
    "arm64": {
        "arm64-4k-48": "pauth-impdef=on,lpa2=off",
        "arm64-4k-52": "pauth-impdef=on,lpa2=on",
        "arm64-16k-47": "pauth-impdef=on,lpa2=off",
        "arm64-16k-52": "pauth-impdef=on,lpa2=on",
    },
}
_WORDS = (
    "loglevel=5",  # warnings, too
    "panic=-1",
    "transparent_hugepage=madvise",
    "nokaslr",
    "mitigations=off",
    "proc_mem.force_override=always",  # protected pages can be read through /proc
    "brd.rd_nr=1",
    "brd.rd_size=262144",
)


@dataclass(frozen=True, slots=True)
class Setup:
    """How a machine is to be: `memory_mib`, `cpu` properties, more `words` for its kernel."""

    memory_mib: int
    cpu: str
    words: tuple[str, ...] = ()


def setup_for(image: Image, geometry: str = "") -> Setup:
    """The usual machine for a kernel, on which it has a geometry, "": the usual one.

    Errors raised: MachineError if it never has.
    """
    cpus = _CPUS[image.arch]
    if geometry and geometry not in cpus:
        raise MachineError(f"a kernel for {image.arch} may have {', '.join(cpus)}, not {geometry}")
    return Setup(_MEMORY_MIB[image.page_bytes], cpus[geometry or next(iter(cpus))])


def program(image: Image) -> str:
    """The qemu for a kernel.  Errors raised: MachineError if it is not installed."""
    name, package, *_ = _QEMU[image.arch]
    path = shutil.which(name)
    if path is None:
        raise MachineError(f"{name} is not installed: apt install {package}")
    return path


def may_have_kvm(image: Image) -> bool:
    """Whether it is worth trying: the same CPU, and a device that we may open."""
    return platform.machine() == _QEMU[image.arch][4] and os.access("/dev/kvm", os.R_OK | os.W_OK)


def command(
    image: Image, setup: Setup, accelerator: str, initramfs: str, console: str
) -> list[str]:
    """How qemu is started: the agent's port is its standard input and output.

    Arguments: `initramfs` and `console` are paths of files.
    Errors raised: MachineError if there is no qemu.
    """
    _, _, machine, terminal, _ = _QEMU[image.arch]
    accel = accelerator if accelerator == KVM else f"{TCG},tb-size={_TRANSLATED_MIB}"
    model = "host" if accelerator == KVM else "max"
    words = " ".join((f"console={terminal}", *_WORDS, *setup.words))
    return [
        program(image),
        *("-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
        *("-machine", machine, "-accel", accel, "-smp", "1", "-m", str(setup.memory_mib)),
        *("-cpu", ",".join(filter(None, (model, setup.cpu)))),
        *("-kernel", str(image.path), "-initrd", initramfs, "-append", words),
        *("-chardev", f"file,id=console,path={console}", "-serial", "chardev:console"),
        *("-device", "virtio-serial-pci"),
        *("-chardev", "stdio,id=agent,signal=off"),
        *("-device", "virtserialport,chardev=agent,name=agent"),
    ]

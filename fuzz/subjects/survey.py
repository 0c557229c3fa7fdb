"""`pmdfuzz vm check`: what a kernel in a virtual machine has, and what can be measured on it."""

import gzip
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fuzz.case import Case
from fuzz.forms import wire
from fuzz.forms.text import parse_call
from fuzz.lib.exits import FINE, SURPRISES
from fuzz.subjects.beside import model_of
from fuzz.subjects.check import generated
from fuzz.subjects.subject import Observation, SubjectError
from fuzz.subjects.vm import Vm
from fuzz.vm.image import Image

_SEED = 1  # of the programs: any would do
_YES, _NO, _UNKNOWN = "yes", "no", "not known: no configuration, and it cannot be seen from outside"
_PRIVATE = "PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED"
_MM = "/sys/kernel/mm/transparent_hugepage"


class Trait(NamedTuple):
    """Something that a kernel has or has not.

    `options` of its configuration, all of which it takes; `seen` asks a running kernel, None: it
    cannot be asked; `without` says what cannot be measured then, "": all can.
    """

    name: str
    options: tuple[str, ...]
    seen: Callable[[Vm], bool] | None = None
    without: str = ""


def _has(path: str, text: str = "") -> Callable[[Vm], bool]:
    """Whether a file is there in the machine, with that text in it."""
    return lambda vm: text in (_read(vm, path) or "") if text else _read(vm, path) is not None


def _reclaims(vm: Vm) -> bool:
    """Whether a table goes when all of its pages do.

    Source: mm/pt_reclaim.c try_to_free_pte() (6.14), of MADV_DONTNEED.
    """
    slot = vm.geometry.slot_bytes
    tables = _shown(
        vm,
        f"mmap({slot:#x}, {slot:#x}, {_PRIVATE})",
        f"touch({slot:#x}, {slot:#x})",
        f"madvise({slot:#x}, {slot:#x}, MADV_DONTNEED)",
    ).get("pt", [0, 0])
    return bool(tables[-1] < tables[-2])


def _protects(vm: Vm) -> bool:
    """Whether a userfaultfd may write-protect pages."""
    slot = vm.geometry.slot_bytes
    registering = f"uffd_register({slot:#x}, {slot:#x}, UFFDIO_REGISTER_MODE_WP, 0)"
    return _shown(vm, f"mmap({slot:#x}, {slot:#x}, {_PRIVATE})", registering).get("ret") == [
        slot,
        0,
    ]


def _shown(vm: Vm, *calls: str) -> Observation:
    """What a program shows."""
    return vm.observe(Case(tuple(map(parse_call, calls))))


TRAITS = (
    Trait(
        "transparent huge pages",
        ("TRANSPARENT_HUGEPAGE",),
        _has(f"{_MM}/enabled"),
        "huge pages, MADV_COLLAPSE",
    ),
    Trait("huge pages of more sizes (mTHP)", (), _has(f"{_MM}/hugepages-64kB/enabled")),
    Trait("huge pages of shared memory", (), _has(f"{_MM}/shmem_enabled")),
    Trait("hugetlb", ("HUGETLBFS",), _has("/proc/sys/vm/nr_hugepages"), "MAP_HUGETLB"),
    Trait(
        "soft-dirty",
        ("MEM_SOFT_DIRTY",),
        _has("/proc/self/smaps", " sd"),
        "soft_dirty_clear, the field sd",
    ),
    Trait(
        "userfaultfd",
        ("USERFAULTFD",),
        _has("/proc/sys/vm/unprivileged_userfaultfd"),
        "uffd_register, uffd_wp",
    ),
    Trait("write protection by it", ("HAVE_ARCH_USERFAULTFD_WP",), _protects, "uffd_wp"),
    Trait("swap", ("SWAP",), lambda vm: "swapout" in vm.able.calls, "swapout"),
    Trait("memory cgroups", ("MEMCG",), _has("/sys/fs/cgroup/cgroup.controllers", "memory")),
    Trait("whole PTE tables move", ("HAVE_MOVE_PMD",)),
    Trait("whole PMD tables move", ("HAVE_MOVE_PUD",)),
    Trait("empty PTE tables are freed (PT_RECLAIM)", ("PT_RECLAIM",), _reclaims),
)


def survey(path: Path, geometry: str, cases: int) -> int:
    """Boot a kernel, and print what it has, how fast it is, and what cannot be measured.

    Arguments: `path`, `geometry` see `Vm`; `cases` programs are run.
    Returns: 0; 1 if its kernel reported something on the way.
    Errors raised: SubjectError.
    """
    started = time.monotonic()
    with Vm(path, geometry) as vm:
        seconds = time.monotonic() - started
        print(f"image       {vm.image.path}")
        print(f"release     {vm.hello.release}, {vm.hello.version}")
        print(f"machine     {vm.image.arch}, {vm.geometry.name}, by {vm.accelerator}")
        print(f"model       {_model(vm)}")
        vm.image, where = _configured(vm)
        print(f"has         according to {where}")
        lacking = list(_traits(vm))
        rate, reported = _run(vm, cases)
        print(f"speed       {seconds:.1f} s to the first case, then {rate:.0f} cases/s")
        for what, why in lacking:
            print(f"not measured: {what}, for want of {why}")
        if vm.able.lacks:
            print(f"not measured: {', '.join(vm.able.lacks)}: the agent cannot ask for that")
    for lines in reported:
        print("the kernel reported:", *lines, sep="\n  ")
    return SURPRISES if reported else FINE


def _model(vm: Vm) -> str:
    try:
        return model_of(vm).name
    except SubjectError as error:
        return f"none: {error}"


def _read(vm: Vm, path: str) -> str | None:
    answer = vm.ask(f"!read {path}")
    return bytes.fromhex(answer["hex"]).decode(errors="replace") if "hex" in answer else None


def _configured(vm: Vm) -> tuple[Image, str]:
    """The image with its configuration, and where that is from."""
    if vm.image.config:
        return vm.image, "the configuration beside the image"
    answer = vm.ask("!read /proc/config.gz")
    if "hex" in answer:
        text = gzip.decompress(bytes.fromhex(answer["hex"])).decode(errors="replace")
        return replace(vm.image, config=text), "/proc/config.gz"
    return vm.image, "the running kernel, as there is no configuration beside the image"


def _traits(vm: Vm) -> Iterator[tuple[str, str]]:
    """Print what the kernel has.  Yields: what cannot be measured, and for lack of what."""
    for trait in TRAITS:
        options = ", ".join(f"CONFIG_{option}" for option in trait.options)
        if trait.seen is not None:
            has = _YES if trait.seen(vm) else _NO
        elif vm.image.config:
            has = _YES if all(map(vm.image.setting, trait.options)) else _NO
        else:
            has = _UNKNOWN
        print(f"  {trait.name:40}{has}")
        if has == _NO and trait.without:
            yield trait.without, options or "the kernel"


def _run(vm: Vm, cases: int) -> tuple[float, list[Sequence[str]]]:
    """Run random programs.  Returns: how many a second, and what the kernel reported."""
    codec = wire.codec(vm.geometry, vm.able.calls)
    programs = islice(generated([], codec, vm.able, _SEED), cases)
    started = time.monotonic()
    reports = [seen["kernel"] for seen in vm.run(programs) if "kernel" in seen]
    rate = cases / (time.monotonic() - started)
    return rate, list({report["what"]: report["lines"] for report in reports}.values())

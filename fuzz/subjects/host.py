"""The kernel below us as a subject, and what of this system the model takes for granted."""

import contextlib
import platform
import re
from pathlib import Path

from engine.base.geometry import UnknownName
from engine.base.kernel import KNOWN_NAMES, Kernel, kernel_named
from fuzz.subjects.against import Against
from fuzz.subjects.agent import TIME_LIMIT, Agent, agent_command
from fuzz.subjects.model import Model
from fuzz.subjects.program import build, native
from fuzz.subjects.subject import SubjectError

GEOMETRY = "x86-64"
WITH_KEYS = "x86-64-pku"  # the same, if the agent leaves the kernel its CPU's protection keys
_THP = "/sys/kernel/mm/transparent_hugepage"
# Where the kernel says how it behaves, what the model takes for granted, and the command for it.
_SETTINGS = (
    (f"{_THP}/enabled", "madvise"),
    (f"{_THP}/shmem_enabled", "never"),
    (f"{_THP}/use_zero_page", "1"),
    ("/sys/kernel/mm/ksm/run", "0"),
)
_OVERCOMMIT = "/proc/sys/vm/overcommit_memory"


class Host(Agent):
    """The kernel below us."""

    def __init__(self, *, time_limit: float = TIME_LIMIT, keys: bool = False) -> None:
        """See `fuzz.subjects.agent.agent_command`.

        Errors raised: SubjectError if the agent cannot be built, or cannot work here.
        """
        if platform.system() == "Linux" and not Path("/proc/self/pagemap").exists():
            raise SubjectError("/proc is not mounted, or has no pagemap")
        if native() != GEOMETRY:
            raise SubjectError(f"the machine must be {GEOMETRY}; this is {native()}")
        command = agent_command(build(), time_limit=time_limit, keys=keys)
        super().__init__(command, f"Linux {release()}", time_limit=time_limit)


def beside_model(
    kernel: str | None = None, geometry: str | None = None, *, time_limit: float = TIME_LIMIT
) -> Against:
    """The kernel below us beside the model of that name (None: the model of its version).

    On the geometry with protection keys the kernel may use them; it is left none on the usual
    one (None).
    Errors raised: SubjectError if it cannot be compared; UnknownName.
    """
    model = host_kernel(kernel, geometry or GEOMETRY)
    host = Host(time_limit=time_limit, keys=model.geometry.exec_only_keys)
    if wrong := obstacles():
        host.close()
        lines = "\n  ".join(wrong)
        raise SubjectError(f"this system is set up otherwise than the model:\n  {lines}")
    return Against(Model(model, commit_limit_bytes=commit_limit_bytes()), host)


# --- This system ----------------------------------------------------------------------------------


def release() -> str:
    """What `uname -r` prints."""
    return platform.release()


def host_kernel(name: str | None = None, geometry: str = GEOMETRY) -> Kernel:
    """The model of the kernel below us: of the same release, or the one that is named.

    Errors raised: SubjectError if no model has this release, or for a geometry that is not ours;
    UnknownName for a wrong name.
    """
    if geometry not in (GEOMETRY, WITH_KEYS):
        raise SubjectError(f"the machine is {GEOMETRY} or {WITH_KEYS}, not {geometry}")
    if name is not None:
        return kernel_named(name, geometry)
    try:
        return kernel_named(f"linux-{_version(release(), platform.version())}", geometry)
    except UnknownName:
        raise SubjectError(
            f"no model of this kernel, {release()}; known: {'; '.join(KNOWN_NAMES)}. "
            "Name the one to compare with: --kernel K"
        ) from None


def _version(release: str, version: str) -> str:
    """The kernel's version, of what `uname -r` and `uname -v` print.

    Distributions may stay at 6.1.0-N in the first.  Debian has the point release in the second;
    with others nothing is left but the series.
    """
    if found := re.search(r"Debian (\d+\.\d+\.\d+)", version):
        return found[1]
    found = re.match(r"(\d+\.\d+)(?:\.0-\d|(\.\d+))?", release)
    return (found[1] + (found[2] or "")) if found else release


def obstacles() -> list[str]:
    """Settings of this system that the model does not follow, and how to change each; mostly []."""
    found = []
    for path, wanted in _SETTINGS:
        chosen = _chosen(path)
        if chosen not in (None, wanted):
            found.append(f"{path} is {chosen!r}: echo {wanted} > {path}")
    for size in sorted(Path(_THP).glob("hugepages-*kB/enabled")):
        # "inherit" takes what the setting for all sizes says, which is right for 2 MiB only.
        right = ("inherit", "madvise") if size.parent.name == "hugepages-2048kB" else ("never",)
        chosen = _chosen(str(size))
        if chosen not in (None, *right):
            found.append(f"{size} is {chosen!r}: echo {right[0]} > {size}")
    if _chosen(_OVERCOMMIT) == "2":
        found.append(f"{_OVERCOMMIT} is '2': echo 1 > {_OVERCOMMIT}")
    with contextlib.suppress(OSError):
        if len(Path("/proc/swaps").read_text().splitlines()) > 1:
            found.append("there is swap: swapoff -a")
    return found


def commit_limit_bytes() -> int | None:
    """The most memory that one call may ask for; None: there is no limit.

    Linux refuses a single request for more than there is, memory and swap, under
    vm.overcommit_memory=0, and none under 1; what depends on all requests so far, 2, is no
    ground for a comparison (see `obstacles`).
    """
    if _chosen(_OVERCOMMIT) != "0":
        return None
    fields = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    return sum(int(fields[name].split()[0]) * 1024 for name in ("MemTotal", "SwapTotal"))


def _chosen(path: str) -> str | None:
    """A setting; of a list of choices the one in brackets.  None: this kernel does not have it."""
    try:
        text = Path(path).read_text().strip()
    except OSError:
        return None
    bracketed = re.search(r"\[(.+?)\]", text)
    return bracketed[1] if bracketed else text

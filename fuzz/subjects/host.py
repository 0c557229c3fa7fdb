"""The kernel below us as a subject, and what of this system the model takes for granted."""

import contextlib
import platform
import re
from pathlib import Path

from engine.base.geometry import UnknownName
from engine.base.kernel import KNOWN_NAMES, Kernel, kernel_named
from fuzz.subjects.agent import TIME_LIMIT, Agent, agent_command
from fuzz.subjects.program import build
from fuzz.subjects.protocol import version
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
        command = agent_command(build(), time_limit=time_limit, keys=keys)
        super().__init__(command, f"Linux {release()}", time_limit=time_limit)
        self.kernel_name = f"linux-{version(release(), platform.version())}"
        self.commit_limit = commit_limit_bytes()

    def obstacles(self) -> list[str]:
        """See `Subject`."""
        return obstacles()


# --- This system ----------------------------------------------------------------------------------


def release() -> str:
    """What `uname -r` prints."""
    return platform.release()


def host_kernel(name: str | None = None) -> Kernel:
    """The model of the kernel below us: of the same release, or the one that is named.

    Errors raised: SubjectError if no model has this release; UnknownName for a wrong name.
    """
    if name is not None:
        return kernel_named(name)
    try:
        return kernel_named(f"linux-{version(release(), platform.version())}")
    except UnknownName:
        raise SubjectError(
            f"no model of this kernel, {release()}; known: {'; '.join(KNOWN_NAMES)}. "
            "Name the one to compare with: --kernel K"
        ) from None


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

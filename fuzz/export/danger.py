"""What a program that does what a case does may do to the machine that runs it."""

from engine.base import uapi
from engine.base.kernel import kernel_named
from fuzz.case import Case
from fuzz.defects.known import DEFECTS
from fuzz.execute import execute
from fuzz.export.met import met_on_releases
from fuzz.showing import DEFAULT_KERNEL

_GUARDS_WITHOUT_END = (
    "since Linux 6.15, madvise(MADV_GUARD_INSTALL) may not end on shared memory that a userfaultfd "
    "write-protects (the process can be killed)"
)
_WAITS_FOR_ITSELF = (
    "mremap may not return where locked memory grows as it moves, and a userfaultfd is told of "
    "that (the process can be killed)"
)


def dangers(case: Case) -> list[str]:
    """How a case is known to crash or hang a released kernel: a clause each; mostly [].

    Errors raised: CaseError for a call that the model does not know.
    """
    ids = (id_ for bucket in met_on_releases(case) for id_ in bucket.defect.split("+") if id_)
    met = (DEFECTS[id_] for id_ in dict.fromkeys(ids))
    found = [f"{one.id}, {one.headline}: {one.crashes}" for one in met if one.crashes]
    if _guards_what_is_watched(case):
        found.append(_GUARDS_WITHOUT_END)
    if execute(
        case, kernel_named(case.kernel or DEFAULT_KERNEL), stop=False, check=False
    ).space.endless:
        found.append(_WAITS_FOR_ITSELF)
    return found


def _guards_what_is_watched(case: Case) -> bool:
    """May guards be put where a userfaultfd write-protects shared memory?"""
    shared = any(call.name == "mmap" and call.args[3] & uapi.MAP_SHARED for call in case.calls)
    watched = any(call.name == "uffd_wp" and call.args[2] for call in case.calls)
    guards = (
        call.name == "madvise" and call.args[2] == uapi.MADV_GUARD_INSTALL for call in case.calls
    )
    return shared and watched and any(guards)

"""What a program that does what a case does may do to the machine that runs it."""

from collections.abc import Iterator

from engine.base import uapi
from engine.base.geometry import geometry_named
from engine.base.kernel import releases
from fuzz.case import Case
from fuzz.defects.attribute import findings_on
from fuzz.defects.known import DEFECTS
from fuzz.matrix import Matrix
from fuzz.showing import runs_of

_GUARDS_WITHOUT_END = (
    "since Linux 6.15, madvise(MADV_GUARD_INSTALL) may not end on shared memory that a userfaultfd "
    "write-protects (the process can be killed)"
)


def dangers(case: Case) -> list[str]:
    """How a case is known to crash or hang a released kernel: a clause each; mostly [].

    Errors raised: CaseError for a call that the model does not know.
    """
    found = [
        f"{id_}, {DEFECTS[id_].headline}: {DEFECTS[id_].crashes}"
        for id_ in _met(case)
        if DEFECTS[id_].crashes
    ]
    return found + ([_GUARDS_WITHOUT_END] if _guards_what_is_watched(case) else [])


def _met(case: Case) -> Iterator[str]:
    """The known defects that it meets on any release."""
    kernels = releases()
    if case.geometry is not None:
        kernels = tuple(kernel.on(geometry_named(case.geometry)) for kernel in kernels)
    matrix, runs = Matrix(kernels), runs_of(case)
    met: dict[str, None] = {}
    for same in runs.each(matrix):
        for _, shown in findings_on(runs, matrix, same):
            ids = (id_ for one in shown for id_ in one.bucket.defect.split("+") if id_)
            met.update(dict.fromkeys(ids))
    yield from met


def _guards_what_is_watched(case: Case) -> bool:
    """May guards be put where a userfaultfd write-protects shared memory?"""
    shared = any(call.name == "mmap" and call.args[3] & uapi.MAP_SHARED for call in case.calls)
    watched = any(call.name == "uffd_wp" and call.args[2] for call in case.calls)
    guards = (
        call.name == "madvise" and call.args[2] == uapi.MADV_GUARD_INSTALL for call in case.calls
    )
    return shared and watched and any(guards)

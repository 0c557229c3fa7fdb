"""What a program that stands for a kernel does not know, and how: it is asked before others run.

A call that it does not know is -ENOSYS, a flag, a protection or an advice mostly -EINVAL, where the
model does what it is asked.  So programs that need what is not there are left out by name, and what
is compared goes deeper.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from fuzz.calls.operand import Choice, Symbols
from fuzz.calls.registry import CALLS
from fuzz.case import Call, Case
from fuzz.forms.text import parse
from fuzz.subjects.subject import Abilities, Observation, Subject

_UNKNOWN = frozenset(("-EINVAL", "-ENOSYS", "-EOPNOTSUPP"))
_PRIVATE = (
    "mmap(0x200000, 0x200000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "touch(0x200000, 0x1000)\n"
)
_SHARED = _PRIVATE.replace("MAP_PRIVATE", "MAP_SHARED")
# Behind these a flag is tried: the last call of each is made with it, and without.
_PROGRAMS = tuple(
    parse(ground + call)
    for ground, call in (
        ("", "mmap(0x400000, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)"),
        ("", "mmap(0x400000, 0x1000, PROT_READ, MAP_ANONYMOUS|MAP_FIXED)"),
        (_PRIVATE, "mremap(0x200000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x400000)"),
        (_PRIVATE, "mprotect(0x200000, 0x1000, PROT_READ)"),
        (_PRIVATE, "madvise(0x200000, 0x200000, MADV_NORMAL)"),
        (_SHARED, "madvise(0x200000, 0x200000, MADV_NORMAL)"),
        (_PRIVATE, "mlock2(0x200000, 0x1000, 0)"),
        (_PRIVATE, "mlock(0x200000, 0x1000)"),
        (_PRIVATE, "munlock(0x200000, 0x1000)"),
        (_PRIVATE, "mseal(0x200000, 0x1000)"),
    )
)


def known(subject: Subject, model: Subject) -> Abilities:
    """What a subject can be asked for, without what it does not know.

    Errors raised: SubjectError.
    """
    able = subject.able
    programs = [case for case in _PROGRAMS if not able.missing(case)]
    answers = zip(programs, subject.run(programs), strict=True)
    calls = {case.calls[-1].name for case, seen in answers if _last(seen) == "-ENOSYS"}
    able = able._replace(calls=able.calls - calls)

    tried: dict[tuple[str, str], Case] = {}
    for name, case in _with_flags(programs):
        key = (case.calls[-1].name, name)
        if (
            key not in tried
            and not able.missing(case)
            and _last(model.observe(case)) not in _UNKNOWN
        ):
            tried[key] = case
    without = {call: set(names) for call, names in able.without.items()}
    for (call, name), seen in zip(tried, subject.run(tried.values()), strict=True):
        if _last(seen) in _UNKNOWN:
            without.setdefault(call, set()).add(name)
    return able._replace(without={call: frozenset(names) for call, names in without.items()})


def _last(observed: Observation) -> Any:
    """The result of the last call; None if the subject died."""
    return observed["ret"][-1] if "ret" in observed else None


def _with_flags(programs: Iterable[Case]) -> Iterator[tuple[str, Case]]:
    """Each program with each flag of its last call, and the name of that."""
    for case in programs:
        *before, last = case.calls
        for index, param in enumerate(CALLS[last.name].params):
            if isinstance(param.kind, Symbols):
                for name, bits in param.kind.names.items():
                    plain = 0 if isinstance(param.kind, Choice) else last.args[index]
                    args = (*last.args[:index], plain | bits, *last.args[index + 1 :])
                    yield name, case.with_calls((*before, Call(last.name, args)))

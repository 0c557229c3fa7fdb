"""What every machine can be asked for, and how it is told; a model in the place of one."""

from collections.abc import Iterable

from engine.base.geometry import geometry_named
from fuzz.calls.registry import CALLS as DECLARED
from fuzz.calls.syscall import Makes
from fuzz.case import Call
from fuzz.subjects.model import Model
from fuzz.subjects.protocol import encode
from fuzz.subjects.subject import Abilities

CALLS = frozenset(
    name for name, call in DECLARED.items() if call.made_by in (Makes.KERNEL, Makes.AGENT)
)
WITHOUT = {"mmap": frozenset(("MAP_HUGETLB",))}
ABLE = Abilities(CALLS, without=WITHOUT)


def line(calls: Iterable[Call]) -> str:
    """A program without a name, as a machine is told of it."""
    return encode("", calls, geometry_named("x86-64"), ABLE).decode()


class LikeMachine(Model):
    """A model that cannot have one attempt fail by itself: a shortage of memory lasts there."""

    able = Model.able._replace(all_failures=False)

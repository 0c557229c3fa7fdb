"""What a program that stands for a kernel does not know is found out, and left out by name."""

from engine.base.kernel import kernel_named
from fuzz.forms.text import parse
from fuzz.subjects.coarse import CoarselyAgainst
from fuzz.subjects.model import Model
from fuzz.subjects.probes import known
from tests.lib.standin import StandIn

MODEL = Model(kernel_named("linux-6.18"))
MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
REFUSES = {
    "mseal": {"": "-ENOSYS"},
    "mremap": {"MREMAP_DONTUNMAP": "-EINVAL"},
    "madvise": {"MADV_COLD": "-EOPNOTSUPP", "MADV_FREE": "-ENOMEM"},
    "mmap": {"MAP_DROPPABLE": "-EINVAL"},
}


def test_what_knows_all_lacks_nothing() -> None:
    assert known(StandIn(), MODEL) == StandIn().able


def test_what_is_refused_though_it_is_right_is_not_known() -> None:
    able = known(StandIn(refuses=REFUSES), MODEL)
    assert able.calls == MODEL.able.calls - {"mseal"}
    assert able.without == {
        "mremap": {"MREMAP_DONTUNMAP"},
        "madvise": {"MADV_COLD"},  # -ENOMEM is an answer
        "mmap": {"MAP_DROPPABLE"},
    }


def test_programs_that_need_it_are_not_run() -> None:
    pair = CoarselyAgainst(MODEL, StandIn(refuses=REFUSES))
    assert pair.unknown == ["mseal", "MADV_COLD", "MAP_DROPPABLE", "MREMAP_DONTUNMAP"]
    assert "it does not know mseal, " in "\n".join(pair.told())
    assert not pair.runnable(parse(MAP + "mseal(0x200000, 0x1000)\n")).calls
    assert pair.divergence(parse(MAP + "madvise(0x200000, 0x1000, MADV_COLD)\n")) is None
    assert pair.divergence(parse(MAP + "madvise(0x200000, 0x1000, MADV_FREE)\n")) is not None

"""What subjects have in common: which programs they can run, how one is held against a model."""

from collections.abc import Iterable, Iterator

import pytest

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from fuzz.calls import registry
from fuzz.calls.registry import CALLS
from fuzz.case import Case
from fuzz.forms.text import parse
from fuzz.subjects.against import ENDLESS, NEEDS_MORE, Against
from fuzz.subjects.beside import meeting_alike
from fuzz.subjects.explain import Explainer
from fuzz.subjects.model import Model
from fuzz.subjects.subject import Abilities, Observation, Subject
from tests.lib.machine import WITHOUT, LikeMachine

KERNEL = kernel_named("linux-6.18")
MAP = "mmap(0x200000, 0x3000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED{more})\n"
FEW = Abilities(frozenset(("mmap", "touch", "mlock")), locks=False, without=WITHOUT)


@pytest.mark.parametrize(
    ("text", "names", "left_out"),
    [
        (MAP.format(more="") + "touch(0x200000, 0x1000)\n", ["mmap", "touch"], []),
        (MAP.format(more="") + "fork()\n", [], ["fork"]),
        (MAP.format(more="|MAP_HUGETLB"), [], ["MAP_HUGETLB"]),
        (MAP.format(more="|MAP_LOCKED") + "touch(0x0, 0x1000)\n", ["touch"], ["mmap"]),
        ("mlock(0x200000, 0x1000)\ntouch(0x0, 0x1000)\n", ["touch"], ["mlock"]),
        (
            MAP.format(more="") + "execve_stack(0x2000, 0x8000, 0x1000)\n",
            ["mmap"],
            ["execve_stack"],
        ),
    ],
)
def test_what_is_left_of_a_program(text: str, names: list[str], left_out: list[str]) -> None:
    case = parse(text)
    assert [call.name for call in FEW.runnable(case).calls] == names
    assert FEW.left_out(case) == left_out


def test_a_case_for_all_of_user_space_runs_on_a_part_of_it() -> None:
    """As far as it stays there; an exec has an address space of its own."""
    machine = Forgetful()
    machine.geometry = GEOMETRIES["i386-pae-2g"]
    head = "@geometry i386-pae\n"
    assert machine.refusal(parse(head + MAP.format(more=""))) == ""
    stack = "execve_stack(0xbfb00000, {end:#x}, 0x0)\n"
    assert "execve_stack is not there" in machine.refusal(parse(head + stack.format(end=3 << 30)))
    machine.execs = True
    assert machine.refusal(parse(head + stack.format(end=3 << 30))) == ""
    assert "ends at 0xc0000000" in machine.refusal(parse(head + stack.format(end=0xBFFFF000)))
    assert "execve_stack is not there" in machine.refusal(parse(stack.format(end=3 << 30)))
    far = machine.refusal(parse(head + "touch(0x80000000, 0x1000)\n"))
    assert far == "it has no addresses beyond 0x80000000"
    assert (
        machine.refusal(parse("@geometry i386\n" + MAP.format(more=""))) == "the case is for i386"
    )


class Forgetful(Subject):
    """Another program that stands for a kernel: it forgets one page table of an mmap."""

    name = "forgetful 1.0"
    able = FEW
    geometry = KERNEL.geometry

    def run(self, cases: Iterable[Case]) -> Iterator[Observation]:
        for case in cases:
            seen = Model(KERNEL).observe(case)
            for index, call in enumerate(case.calls):
                if call.name == "touch":
                    seen["pt"][index] -= 4096
            yield seen


def test_any_subject_can_be_held_against_a_model() -> None:
    case = parse(
        MAP.format(more="") * 2 + "touch(0x200000, 0x3000)\nexecve_stack(0x2000, 0x8000, 0x1000)\n"
    )
    with Against(Model(KERNEL), Forgetful()) as pair:
        found = pair.divergence(case)
        assert found is not None
        assert str(found.kind) == "pt after touch()"
        small = pair.minimized(pair.earliest(found), 200)
        assert small is not None
        assert [call.name for call in small.case.calls] == ["touch"]
        kept = pair.as_case(small, "by hand")
    assert kept.comments[0] == "forgetful 1.0 differs from linux-6.18: pt after touch()"
    assert (kept.kernel, kept.geometry, kept.found) == (KERNEL.name, None, ("by hand",))


def test_a_model_is_a_subject_like_any_other() -> None:
    case = parse(MAP.format(more=""))
    with Against(Model(KERNEL), Model(kernel_named("linux-6.1"))) as pair:
        assert pair.divergence(case) is None


def test_a_subject_says_what_it_lacks() -> None:
    without = {**WITHOUT, "@limit": frozenset(("commit",))}
    few = FEW._replace(calls=Model.able.calls - {"fork"}, without=without, reach=0x1000)
    flags = ["@limit commit", "MAP_HUGETLB"]
    assert few.lacks == ["fork", *flags, "locking memory", "addresses beyond 0x1000"]
    assert few.missing(parse("@limit commit 0x1000\n")) == ["@limit commit"]
    assert few.missing(parse("@limit map_count 4\n")) == []
    assert Model.able.lacks == []


def test_a_case_for_other_page_tables_is_refused() -> None:
    with Forgetful() as subject:
        assert subject.refusal(parse("@geometry tiny\ntouch(0, 1)\n")) == "the case is for tiny"
        assert subject.refusal(parse("@geometry x86-64\ntouch(0, 1)\n")) == ""
        assert subject.refusal(parse("fork()\n")) == "it has no fork"


@pytest.mark.parametrize(
    ("calls", "can"),
    [
        (("touch", "@fail", "mremap", "touch"), True),
        (("@fail", "@fail", "mremap"), True),
        (("mremap", "touch"), True),
        (("@fail", "touch", "mremap"), False),
        (("@fail", "mremap", "mremap"), False),
        (("@fail", "mremap", "@fail", "mremap"), False),
        (("@fail",), False),
        (("swapout", "@fail", "mremap"), False),
    ],
)
def test_a_machine_is_short_of_memory_for_one_mremap(calls: tuple[str, ...], can: bool) -> None:
    case = Case(tuple(registry.call(name, *[1] * len(CALLS[name].params)) for name in calls))
    machine = Abilities(frozenset(CALLS))
    assert machine.missing(case) == ([] if can else ["@fail of other than one mremap"])
    assert machine._replace(all_failures=True).missing(case) == []


# --- shortages of memory --------------------------------------------------------------------------

LOSES = """
mmap(0x300000, 0x300000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0x400000, 0x1000)
@fail pagetable 2
mremap(0x300000, 0x300000, 0x300000, MREMAP_MAYMOVE|MREMAP_FIXED, 0)
touch(0x400000, 0x1000)
"""
MERGES = """
mmap(0, 0x2000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)
touch(0, 0x1000)
mremap(0x1000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x400000)
@fail pagetable 1
mremap(0, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, 0x3ff000)
"""


def test_a_shortage_that_lasts_does_so_to_the_end_of_the_call() -> None:
    kernel, case = kernel_named("linux-7.3"), parse(LOSES).program()
    short = Model(kernel, shortages_last=True).observe(case)
    assert (short["ret"][3:], short["pages"]) == (["-ENOMEM", 0], [[1024, 1, "P", 2]])
    before = case.with_calls(case.calls[:-1])
    assert Model(kernel, shortages_last=True).observe(before)["pages"] == []
    assert Model(kernel).observe(before)["pages"] == [[1024, 1, "P", 1]]


def test_what_a_shortage_reaches_beyond_page_tables_is_not_compared() -> None:
    kernel = kernel_named("linux-7.3")
    pair = Against(Model(kernel, shortages_last=True), Model(kernel))
    assert pair.divergence(parse(LOSES)) is not None
    assert pair.not_compared == ""
    assert pair.divergence(parse(MERGES)) is None
    assert pair.not_compared == NEEDS_MORE
    assert pair.divergence(parse(LOSES)) is not None
    assert pair.not_compared == ""


def test_what_a_kernel_does_not_return_from_is_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = kernel_named("linux-6.18")
    pair = Against(Model(kernel), LikeMachine(kernel))
    case = parse(
        "mmap(0x10000, 0x1000, 3, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
        "uffd_register(0x10000, 0x1000, UFFDIO_REGISTER_MODE_MISSING)\n"
        "mremap(0x10000, 0x1000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x20000)\n"
    )
    killed = {"id": "", "crash": "takes too long"}
    assert pair.judge(case, killed) is not None
    assert pair.not_compared == ""
    monkeypatch.setattr("engine.mremap._waits_for_itself", lambda *_: True)
    assert pair.judge(case, killed) is None
    assert pair.not_compared == ENDLESS


def test_beside_a_machine_a_shortage_lasts_on_every_model() -> None:
    kernel, lasting = kernel_named("linux-7.3"), parse(LOSES).program()
    machine = LikeMachine(kernel)
    shown = machine.observe(lasting)
    for model in (*meeting_alike(Model(kernel), machine), *meeting_alike(machine, Model(kernel))):
        assert model.observe(lasting) == shown
    explainer = Explainer(kernel, kernel, machine)
    assert explainer.shows(kernel, lasting, shown)
    assert not Explainer(kernel, kernel).shows(kernel, lasting, shown)
    assert explainer.can_tell(lasting)
    assert not explainer.can_tell(parse(MERGES).program())

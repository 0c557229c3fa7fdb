"""A check of random programs: what is made and run, what is kept, and how it ends.

Another model stands for the machine, so that this needs none; `test_host.py` asks the real one.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from random import Random
from signal import SIGINT, SIGTERM

import pytest

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from fuzz.case import Case
from fuzz.forms import wire
from fuzz.forms.text import dump, load, parse
from fuzz.lib.exits import BAD_INPUT, FINE, INTERRUPTED, STOPPED, SURPRISES
from fuzz.lib.signals import Stop
from fuzz.subjects import check as module
from fuzz.subjects.against import Against
from fuzz.subjects.check import CheckOptions, _mutated, check, check_cases, generated, planned
from fuzz.subjects.model import Model
from fuzz.subjects.subject import Abilities, Observation, SubjectError
from tests.lib.machine import WITHOUT

X86 = GEOMETRIES["x86-64"]
CALLS = frozenset(("mmap", "munmap", "touch", "mremap"))
ABLE = Abilities(CALLS, locks=False, without=WITHOUT)
CODEC = wire.codec(X86, CALLS)
MAP = "mmap(0x200000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
MOVED = parse(MAP + "mremap(0x200000, 0x4000, 0x4000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x800000)\n")


class Machine(Model):
    """A model that stands for a machine; before program number `at` something happens."""

    at = -1

    def __init__(self, kernel: str, happens: Callable[[], None] = lambda: None) -> None:
        super().__init__(kernel_named(kernel))
        self.able = ABLE
        self.happens = happens

    def run(self, cases: Iterable[Case]) -> Iterator[Observation]:
        for number, case in enumerate(cases):
            if number == self.at:
                self.happens()
            yield self.observe(case)


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Callable[[Machine], None]:
    """Makes a machine the one that is checked, against the model of 6.18."""

    def use(machine: Machine) -> None:
        pair = Against(Model(kernel_named("linux-6.18")), machine)
        monkeypatch.setattr(module, "beside_model", lambda *_, **__: pair)

    return use


# --- programs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sources", [[], [wire.encode(MOVED, X86)]], ids=["bytes", "mutations"])
def test_equal_seeds_make_equal_programs_that_can_be_run(sources: list[bytes]) -> None:
    def some(seed: int) -> list[Case]:
        return list(islice(generated(sources, CODEC, ABLE, seed), 60))

    programs = some(3)
    assert programs == some(3) != some(4)
    assert all(case.calls and ABLE.runnable(case) == case for case in programs)
    assert {call.name for case in programs for call in case.calls} == CALLS


def test_cases_to_mutate_are_mutated_half_of_the_time() -> None:
    target = MOVED.calls[1].args[4]
    programs = islice(generated([wire.encode(MOVED, X86)], CODEC, ABLE, 1), 200)
    alike = sum(any(call.args[-1] == target for call in case.calls) for case in programs)
    assert 30 < alike < 120


def test_programs_about_a_call_make_it_and_no_other_that_is_not_there() -> None:
    able = ABLE._replace(calls=CALLS | {"file", "ftruncate"})
    made = [list(islice(planned(X86, able, seed, "file"), 20)) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    names = [{call.name for call in case.calls} for case in made[0]]
    assert all("file" in each and each <= able.calls for each in names)


def test_no_mutation_is_longer_than_a_program_may_be() -> None:
    long, rng = wire.encode(Case(MOVED.calls * 12), X86), Random(1)
    lengths = {len(_mutated(rng, [long, long[:100]])) // wire.WIDTH for _ in range(300)}
    assert max(lengths) == wire.MAX_CALLS
    assert min(lengths) < 12


# --- how it ends ----------------------------------------------------------------------------------

Output = pytest.CaptureFixture[str]


def test_a_machine_that_does_the_same(
    beside: Callable[[Machine], None], tmp_path: Path, capsys: Output
) -> None:
    beside(Machine("linux-6.18"))
    assert check(CheckOptions(tmp_path, cases=20, seed=1)) == FINE
    shown = capsys.readouterr().out
    assert "beside linux-6.18, 20 programs, seed 1, 0 cases to mutate" in shown
    assert "20 of 20 programs" in shown
    assert "none diverges" in shown
    assert list(tmp_path.iterdir()) == []


def test_a_machine_that_differs(
    beside: Callable[[Machine], None],
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MINIMIZE_BUDGET", 8)
    beside(Machine("linux-5.4"))
    assert check(CheckOptions(tmp_path, cases=25, seed=1)) == SURPRISES
    shown = capsys.readouterr().out
    kept = sorted((tmp_path / "divergences").glob("*.case"))
    assert kept
    assert shown.count("\nDIVERGENCE ") == len(kept)
    assert "Look again with: pmdfuzz check " in shown
    for path in kept:
        assert any(call.result is not None for call in load(path).calls)


def test_a_baseline_is_written_and_then_compared_with(
    beside: Callable[[Machine], None],
    tmp_path: Path,
    capsys: Output,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MINIMIZE_BUDGET", 8)
    path = tmp_path / "known.json"
    first = CheckOptions(tmp_path, cases=25, seed=1, baseline=path)
    again = CheckOptions(tmp_path, baseline=path)
    beside(Machine("linux-5.4"))
    assert check(first) == FINE
    assert f"written as a baseline: {path}" in capsys.readouterr().out
    kept = path.read_bytes()
    assert check(again) == FINE
    said = capsys.readouterr().out
    assert "25 programs, seed 1" in said
    assert said.endswith("as the baseline\n")
    beside(Machine("linux-6.18"))
    assert check(again) == FINE  # nothing is worse
    said = capsys.readouterr().out
    assert "the baseline is of linux-5.4, this is linux-6.18\n" in said
    assert " is gone\n" in said
    assert path.read_bytes() == kept
    path.unlink()
    assert check(first) == FINE
    beside(Machine("linux-5.4"))
    assert check(again) == SURPRISES
    assert " is new\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (SubjectError("it is gone"), BAD_INPUT, "the machine is lost: it is gone"),
        (Stop(SIGINT), INTERRUPTED, "interrupted: 7 of 20 programs"),
        (Stop(SIGTERM), STOPPED + SIGTERM, "interrupted: 7 of 20 programs"),
    ],
)
def test_what_was_done_until_the_end_is_told(
    error: BaseException,
    status: int,
    told: str,
    beside: Callable[[Machine], None],
    tmp_path: Path,
    capsys: Output,
) -> None:
    def happens() -> None:
        raise error

    machine = Machine("linux-6.18", happens)
    machine.at = 7
    beside(machine)
    assert check(CheckOptions(tmp_path, cases=20, seed=1)) == status
    out, err = capsys.readouterr()
    assert told in out + err
    assert "7 of 20 programs" in out


def test_cases_that_are_none_or_for_another_geometry_are_not_mutated(
    beside: Callable[[Machine], None], tmp_path: Path, capsys: Output
) -> None:
    paths = [tmp_path / f"{name}.case" for name in ("good", "bad", "other")]
    for path, text in zip(
        paths, (dump(MOVED), "no call\n", f"@geometry tiny\n{dump(MOVED)}"), strict=True
    ):
        path.write_text(text)
    beside(Machine("linux-6.18"))
    assert check(CheckOptions(tmp_path, cases=1, seed=1, sources=paths)) == FINE
    shown = capsys.readouterr().out
    assert "seed 1, 1 cases to mutate" in shown
    assert f"skipped: {paths[1]}" in shown
    assert "other.case" not in shown


# --- cases ----------------------------------------------------------------------------------------


def test_cases_that_the_machine_cannot_run_are_refused(
    beside: Callable[[Machine], None], capsys: Output
) -> None:
    beside(Machine("linux-6.18"))
    whole, partly, not_at_all = (
        MOVED,
        parse(MAP + "execve_stack(0x1fff000, 0x2200000, 0x200000)\n"),
        parse(MAP + "fork()\n"),
    )
    cases = [("whole", whole), ("partly", partly), ("no", not_at_all)]
    assert check_cases(cases, None) == BAD_INPUT
    said = capsys.readouterr()
    assert said.out.splitlines() == ["1 of 1 programs: linux-6.18 does what linux-6.18 does"]
    assert said.err.splitlines() == [
        "pmdfuzz check: partly: not run: execve_stack is not there",
        "pmdfuzz check: no: not run: it has no fork",
    ]
    assert check_cases(cases[2:], None) == BAD_INPUT
    assert not capsys.readouterr().out  # of nothing that was run there is nothing to say


def test_a_case_that_differs_is_shown(beside: Callable[[Machine], None], capsys: Output) -> None:
    beside(Machine("linux-5.4"))
    case = parse(
        MAP + "mremap(0x200000, 0x4000, 0x4000, "
        "MREMAP_MAYMOVE|MREMAP_FIXED|MREMAP_DONTUNMAP, 0x800000)\n" + MAP
    )
    assert check_cases([("one", case)], None) == SURPRISES
    shown = capsys.readouterr().out
    assert shown.startswith("one: ret after mremap(")
    assert "0 of 1 programs: linux-5.4 does what linux-6.18 does" in shown

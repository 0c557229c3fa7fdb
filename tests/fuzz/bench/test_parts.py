"""Measurements: what they count, not how fast anything is."""

import lzma
from itertools import islice
from pathlib import Path

import pytest

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import KERNELS, kernel_named
from fuzz.bench.__main__ import main
from fuzz.bench.kernels import cost
from fuzz.bench.profile import profile
from fuzz.bench.programs import cases_of
from fuzz.bench.rules import group_costs, left_out_costs, state_costs
from fuzz.campaign import selfcheck
from fuzz.forms.text import dump
from fuzz.rules.index import FILES
from fuzz.rules.judge import ALL
from fuzz.rules.rule import STATE
from tests.lib.constants import ROOT

KERNEL = kernel_named("linux-6.18")
SAMPLE = ROOT / "corpus" / "truth" / "linux-6.18.jsonl.xz"


def test_programs_come_from_files_or_from_a_seed(tmp_path: Path) -> None:
    one, two, other = (cases_of([], KERNEL, 20, seed) for seed in (1, 1, 2))
    assert one == two != other
    assert len(one) == 20
    path = tmp_path / "x.case"
    path.write_text(dump(one[0]) + "execve_stack(0x300000, 0x600000, 0x200000)\n")
    assert cases_of([path], KERNEL, 20, 1) == one[:1]  # without what no program can do
    with lzma.open(SAMPLE) as recorded:
        assert len(cases_of([SAMPLE, path], KERNEL, 20, 1)) == len(recorded.readlines()) + 1


def test_a_profile_shares_out_the_time_of_the_model() -> None:
    cases = cases_of([], KERNEL, 30, 1)
    for rules, there in ((False, "fuzz.subjects.observe"), (True, "fuzz.rules.leaves")):
        shares = {share.module: share.part for share in profile(KERNEL, cases, rules=rules)}
        assert sum(shares.values()) == pytest.approx(1)
        assert {"engine.state.table", "fuzz.execute", there} <= set(shares)
        assert ("fuzz.oracle.oracle" in shares) is rules


@pytest.mark.slow
def test_every_rule_on_a_state_and_every_cadence_has_its_cost() -> None:
    cases = cases_of([], KERNEL, 10, 1)
    groups = [cost.what for cost in group_costs(KERNEL, cases)]
    assert [what.rpartition(" ")[2] for what in groups[2:]] == ["last", "moving", "call"]
    assert [cost.what for cost in left_out_costs(KERNEL, cases)][1:-1] == [
        f"{name}.py" for name in FILES
    ]
    costs = {cost.what: cost.microseconds for cost in state_costs(KERNEL, cases)}
    assert {what.rpartition(".")[2] for what in costs} > {rule.__name__ for rule in ALL.on[STATE]}
    assert all(microseconds > 0 for microseconds in costs.values())


def test_feeding_an_unknown_kind_of_cells_is_refused() -> None:
    with pytest.raises(SystemExit, match="unknown nonsense; known: place, path"):
        main(["feedback", "--feed", "vma,nonsense"])


def test_many_kernels_cost_less_than_each_alone() -> None:
    geometry = GEOMETRIES["x86-64"]
    cases = list(islice(selfcheck.programs(geometry, "1", []), 10))
    few, many = (cost(names, geometry, cases) for names in (["linux-6.1"], list(KERNELS)))
    assert few.runs == 1.0
    assert 1.0 < many.runs < len(KERNELS)
    assert min(few.milliseconds, many.milliseconds) > 0

"""Programs of contestants: whatever is drawn, they can be run, and read."""

from hypothesis import given
from hypothesis import strategies as st

from engine.base.geometry import GEOMETRIES
from engine.base.kernel import kernel_named
from fuzz.calls.registry import CALLS
from fuzz.case import limits_are_in_place
from fuzz.contest.chance import _Dice
from fuzz.contest.writer import MOST_CALLS, Writer
from fuzz.execute import execute
from fuzz.forms import text


@given(st.integers(0, 1 << 32), st.sampled_from(("x86-64", "small", "tiny")))
def test_any_program_can_be_read_and_run(seed: int, name: str) -> None:
    case = Writer(_Dice(seed), GEOMETRIES[name]).program()
    assert 0 < len(case.calls) <= MOST_CALLS
    assert limits_are_in_place(case.calls)
    assert text.parse(text.dump(case)).calls == case.calls
    execute(case, kernel_named("linux-6.18", name), stop=False, check=False)


def test_every_call_is_written_sooner_or_later() -> None:
    written = {
        call.name
        for seed in range(400)
        for call in Writer(_Dice(seed), GEOMETRIES["x86-64"]).program().calls
    }
    assert written == set(CALLS)

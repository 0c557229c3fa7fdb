"""How operands are read from bytes: where, as what, and that no mode is left without a use."""

from fuzz.calls import record
from fuzz.calls.record import (
    EXISTING,
    FIELDS,
    FLAGS,
    ODD,
    PROT,
    SIZE,
    SPAN,
    TARGET,
    TOP,
    Reads,
    Step,
    address,
    choice,
    length,
)
from fuzz.calls.registry import CALLS
from fuzz.forms.wire import WIDTH

USED = [step for call in CALLS.values() for step in call.record]


def test_where_and_what_is_read() -> None:
    assert choice(3, FLAGS) == Step(3, FLAGS, Reads.CHOICE)
    assert choice(2, PROT, frozenset((5,))).that_fill == {5}
    assert address(4, 3, TARGET) == Step(4, FIELDS[3], Reads.ADDRESS, TARGET)
    assert length(1, 1, {SIZE: 1}, most_slots=2) == Step(1, FIELDS[1], Reads.LENGTH, {SIZE: 1}, 2)


def test_fields_lie_beside_each_other_in_a_record() -> None:
    opcode, mark = 0, WIDTH - 1
    places = [opcode, FLAGS, PROT, *(at + i for at in FIELDS for i in range(3)), mark]
    assert places == list(range(WIDTH))


def test_every_mode_is_likely_for_something() -> None:
    addresses = {m for step in USED if step.reads is Reads.ADDRESS for m in step.modes}
    lengths = {
        m for step in USED if step.reads not in (Reads.ADDRESS, Reads.CHOICE) for m in step.modes
    }
    assert addresses == set(range(TOP + 1))
    assert lengths == set(range(ODD + 1))


def test_a_choice_has_no_modes_and_a_field_has() -> None:
    assert all(bool(step.modes) is (step.reads is not Reads.CHOICE) for step in USED)
    assert all(weight > 0 for step in USED for weight in step.modes.values())


def test_what_is_to_exist_mostly_refers_to_a_mapping() -> None:
    """Modes below SPAN refer to an earlier one."""
    for modes, mostly in ((EXISTING, True), (record.STACK_END, False)):
        referring = sum(weight for mode, weight in modes.items() if mode < SPAN)
        assert (referring > 0.9 * sum(modes.values())) is mostly


def test_what_an_access_fills_is_kept_short() -> None:
    for name in ("touch", "peek"):
        lengths = [step for step in CALLS[name].record if step.reads is Reads.LENGTH]
        assert [step.most_slots for step in lengths] == [2]

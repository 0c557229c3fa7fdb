"""A declaration: which range a call names, which operands are addresses, what nobody has said."""

import pytest

from fuzz.calls.registry import CALLS
from fuzz.calls.syscall import Span, main_filled, nothing_filled


@pytest.mark.parametrize(
    ("span", "args", "named", "is_point"),
    [
        pytest.param(Span(0, 1), (16, 4, 9), (16, 4), False, id="a length"),
        pytest.param(Span(1, length=0), (4, 16), (16, 4), False, id="a length before it"),
        pytest.param(Span(0, end=1), (16, 20, 9), (16, 4), False, id="an end"),
        pytest.param(Span(0, end=1), (16, 12), (16, -4), False, id="an end below it"),
        pytest.param(Span(1), (3, 16), (16, 1), True, id="a page"),
    ],
)
def test_the_range_that_a_call_names(
    span: Span, args: tuple[int, ...], named: tuple[int, int], is_point: bool
) -> None:
    assert span.of(args) == named
    assert span.is_point is is_point


@pytest.mark.parametrize(
    ("name", "args", "named"),
    [
        ("mmap", (0x1000, 0x2000, 3, 0x32, -1, 0), (0x1000, 0x2000)),
        ("mremap", (0x1000, 0x2000, 0x3000, 3, 0x9000), (0x1000, 0x2000)),
        ("execve_stack", (0x1000, 0x3000, 0x1000), (0x1000, 0x2000)),
        ("touch_on", (1, 0x1000), (0x1000, 1)),
    ],
)
def test_the_ranges_of_calls(name: str, args: tuple[int, ...], named: tuple[int, int]) -> None:
    span = CALLS[name].span
    assert span is not None
    assert span.of(args) == named


@pytest.mark.parametrize(
    ("flags", "new_addr", "named"),
    [(1, 0, False), (1, 0x9000, True), (3, 0, True), (5, 0, True), (0, 0, False)],
)
def test_whether_operands_name_where_a_move_goes(flags: int, new_addr: int, named: bool) -> None:
    target = CALLS["mremap"].target
    assert target is not None
    assert target.named((0x1000, 0x2000, 0x3000, flags, new_addr)) is named


@pytest.mark.parametrize(
    ("name", "addresses", "blank"),
    [
        ("mmap", (0,), (0, 0, 0, 0, -1, 0)),
        ("mremap", (0, 4), (0, 0, 0, 0, 0)),
        ("touch_on", (1,), (0, 0)),
        ("execve_stack", (0, 1), (0, 0, 0)),
        ("fork", (), ()),
    ],
)
def test_operands(name: str, addresses: tuple[int, ...], blank: tuple[int, ...]) -> None:
    assert CALLS[name].addresses == addresses
    blank_of = CALLS[name].blank
    assert len(blank_of) == len(blank)
    assert [one & 0xFFFFFFFF for one in blank_of] == [one & 0xFFFFFFFF for one in blank]


def test_directives_are_told_by_their_names() -> None:
    directives = {name for name, call in CALLS.items() if call.is_directive}
    assert directives >= {"@fail", "@limit", "@at touch", "@at swapout"}
    assert {name for name in directives if not name.startswith("@at ")} == {"@fail", "@limit"}


@pytest.mark.parametrize("locking", [True, False])
def test_how_much_a_call_may_fill(locking: bool) -> None:
    assert nothing_filled((0x1000, 0x2000), locking) == 0
    assert main_filled((0x1000, 0x2000), locking) == 0x2000
    grown = CALLS["mremap"].fills((0, 0x1000, 0x3000, 1, 0), locking)
    assert grown == (0x3000 if locking else 0)
    assert CALLS["mremap"].fills((0, 0x3000, 0x1000, 1, 0), locking) == 0

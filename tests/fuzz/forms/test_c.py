"""Calls as the C of exported programs: read back as they were."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.base.geometry import GEOMETRIES
from fuzz.calls.registry import CALLS, DIRECTIVES, MODELLED_CALLS
from fuzz.case import Faults, Result
from fuzz.forms.c import format_call, is_call, read_call, read_value
from fuzz.forms.lexical import Wrong
from fuzz.forms.wire import WIDTH, Codec

CODEC = Codec(GEOMETRIES["x86-64"], calls=MODELLED_CALLS)
ARENA = GEOMETRIES["x86-64"].arena.length


@given(st.binary(max_size=16 * WIDTH))
def test_calls_come_back(data: bytes) -> None:
    for call in CODEC.decode(data).calls:
        if call.name not in DIRECTIVES and CALLS[call.name].base is None:
            assert is_call(format_call(call))
            assert read_call(format_call(call)) == call._replace(result=None)


def test_a_call_that_is_short_of_tables_is_the_call() -> None:
    call = read_call("sys_mremap(AT(0x0), 1, 1, 0, AT(0x0))")
    assert format_call(call, 3) == "sys_mremap_with_tables(3, AT(0x0), 1, 1, 0, AT(0x0))"
    assert read_call(format_call(call, 3)) == call


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("0", "munmap", 0),
        ("AT(0x3000)", "mmap", 0x3000),
        ("AT(0x8000000000)", "mmap", "OUT"),
        ("0x7000", "mremap", "OUT"),
        ("-22 (Invalid argument)", "mremap", "-EINVAL"),
        ("-95 (Operation not supported)", "fallocate", "-EOPNOTSUPP"),
        ("SEGV[0x1000, 0x2000) BUS[0x4000, 0x5000)", "touch", Faults(((1, 1),), ((4, 1),))),
    ],
)
def test_results_as_programs_print_them(text: str, name: str, value: Result) -> None:
    assert read_value(text, name, 4096, ARENA) == value


@pytest.mark.parametrize(
    "text", ["sys_munmap(AT(0x0), 08)", "sys_munmap(AT(0x0), 0x)", "nothing()", "touch", "touch()"]
)
def test_what_is_no_call(text: str) -> None:
    with pytest.raises(Wrong):
        read_call(text)

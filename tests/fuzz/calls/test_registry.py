"""What every call needs: the declaration is complete, and what cannot be in it is elsewhere.

A call that is added is seen here; each failure says what is missing, and where it belongs.
"""

import inspect
from dataclasses import replace

import pytest

from engine.base.geometry import GEOMETRIES
from fuzz.calls.arena import Arena, anywhere
from fuzz.calls.operand import ADDR, Address, Flags, Length, Operand, Symbols
from fuzz.calls.record import FIELDS, FLAGS, NTH, POINT, PROT, Reads
from fuzz.calls.registry import (
    CALLS,
    as_made,
    call,
    in_order,
    operands,
    that_do,
    untagged,
    why_skipped,
)
from fuzz.calls.syscall import Does, Makes, Returns, Syscall
from fuzz.case import Call, Case
from fuzz.forms import wire
from fuzz.forms.text import dump, parse, parse_call, signature
from fuzz.minimize.search import minimize
from fuzz.oracle.meanings import MEANINGS
from tests.lib.constants import ROOT

X86 = GEOMETRIES["x86-64"]
EACH = pytest.mark.parametrize("declared", CALLS.values(), ids=list(CALLS))
EACH_KIND = pytest.mark.parametrize(
    "kind",
    {param.kind.meaning: param.kind for c in CALLS.values() for param in c.params}.values(),
    ids=lambda kind: kind.meaning,
)
PAGE, SLOT = X86.page_bytes, X86.slot_bytes


def plain(kind: Operand) -> int:
    """A value of a kind that programs are likely to give."""
    if isinstance(kind, Address | Length):
        return SLOT
    choices = kind.choices(X86)
    return max(choices, key=lambda value: choices[value]) if choices else kind.ordinary or 0


def usual(declared: Syscall) -> Call:
    """The call as programs are likely to make it."""
    args = [plain(param.kind) for param in declared.params]
    if declared.span is not None and declared.span.end is not None:
        args[declared.span.end] += SLOT
    if declared.target is not None:
        args[declared.target.start] += SLOT
    return Call(declared.name, tuple(args))


def either(kind: Symbols) -> set[int]:
    """The named values of a kind that come up, alone or among others."""
    likely = kind.choices(X86)
    if isinstance(kind, Flags):
        return {flag for flag in kind.names.values() if any(flag & ~v == 0 for v in likely)}
    return set(likely)


# Declared


@EACH
def test_operands_are_those_of_the_model(declared: Syscall) -> None:
    model = (declared.base or declared).model
    takes = list(inspect.signature(model).parameters.values())[1:]
    front = 0 if declared.base is None else 2
    assert len(takes) + front == len(declared.params), f"{declared.name}: {model} takes others"
    optional = [param.default is not None for param in declared.params]
    assert optional == sorted(optional), "what may be left out stands at the end"
    assert all(
        param.default is None or param.kind.low <= param.default <= param.kind.high
        for param in declared.params
    )


@EACH
def test_addresses_are_those_of_the_span(declared: Syscall) -> None:
    span, target = declared.span, declared.target
    named = {
        *((span.start, span.end) if span else ()),
        *((target.start,) if target else ()),
    } - {None}
    assert named == set(declared.addresses), "say which range each address is of: span, target"
    lengths = [at for at in (span and span.length, target and target.length) if at is not None]
    assert all(isinstance(declared.params[at].kind, Length) for at in lengths)
    assert target is None or (span and span.length is not None)


@EACH
def test_calls_about_an_address_have_a_rule_of_the_arena(declared: Syscall) -> None:
    if declared.span is None:
        return
    assert declared.stays is not anywhere, f"{declared.name} is about an address: name its rule"
    arena = Arena.of(X86)
    call = usual(declared)
    assert declared.stays(arena, *operands(arena, declared, as_made(call, X86).args)), call
    outside = list(call.args)
    for at in declared.addresses:
        outside[at] += X86.arena.length
    args = operands(arena, declared, outside)
    assert not declared.stays(arena, *args), f"{declared.name} leaves the arena"


@EACH
def test_what_fills_pages_says_so_and_is_kept_small(declared: Syscall) -> None:
    span = declared.span
    if span is None or span.length is None or declared.target is not None:
        return
    args = list(usual(declared).args)
    args[span.length] = 1 << 38
    arena = Arena.of(X86)
    may = declared.stays(arena, *operands(arena, declared, args))
    fills = declared.fills(args, False)
    assert fills in (0, 1 << 38)
    assert may or fills, "what the arena keeps small fills pages: say how many"


@EACH
def test_what_the_kernel_does_is_a_call_of_linux(declared: Syscall) -> None:
    if declared.made_by is Makes.KERNEL:
        assert declared.name.isidentifier()
        assert len(declared.params) <= 6
        assert declared.returns is not Returns.FAULTS
    assert declared.is_directive <= (declared.made_by is Makes.MODEL)


@EACH_KIND
def test_kinds_of_operands_make_sense(kind: Operand) -> None:
    assert kind.low <= kind.high
    assert all(kind.low <= value <= kind.high for value in kind.choices(X86))
    assert all(weight > 0 for weight in kind.choices(X86).values())
    if kind.ordinary is not None:
        assert kind.low <= kind.ordinary <= kind.high
        assert kind.strangeness(kind.ordinary) == 0
    if isinstance(kind, Symbols):
        assert all(kind.low <= value <= kind.high for value in kind.names.values())
        assert either(kind), f"{kind.meaning}: say which values are likely"
    if isinstance(kind, Flags):
        assert set(kind.first) <= set(kind.names)
        assert kind.strangeness(kind.ordinary ^ 1) == 1


# The byte form


@EACH
def test_bytes_stand_for_each_call(declared: Syscall) -> None:
    codec = wire.codec(X86)
    assert declared.name in codec.opcodes, f"{declared.name} lost its bytes to later calls"
    assert 0 <= min(declared.codes) <= max(declared.codes) <= 255
    read = {step.operand for step in declared.record}
    left = [p.name for i, p in enumerate(declared.params) if i not in read and p.default is None]
    assert not left, f"{declared.name}: {left} must be read from some byte of the record"
    assert len(read) == len(declared.record)
    bytes_read = [step.at for step in declared.record]
    assert len(set(bytes_read)) == len(bytes_read), "two operands are read from the same byte"
    front = 0 if declared.base is None else 2
    for step in declared.record:
        kind = declared.params[step.operand].kind
        if step.reads is Reads.CHOICE:
            assert step.at in ((FLAGS, PROT, *FIELDS) if step.operand >= front else (POINT, NTH))
            assert kind.choices(X86), f"{kind.meaning}: say which values are likely"
        else:
            assert step.at in FIELDS
            assert isinstance(kind, Address if step.reads is not Reads.LENGTH else Length)


def test_literals_have_bytes() -> None:
    assert 1 <= wire.codec(X86).opcodes.count("") <= 8


def test_a_new_call_takes_no_byte_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = wire.Codec(X86).opcodes
    newcomer = replace(CALLS["mlock"], number=999, name="newcomer", codes=(3, 200))
    monkeypatch.setitem(CALLS, "newcomer", newcomer)
    after = wire.Codec(X86).opcodes
    assert [code for code in range(256) if before[code] != after[code]] == [3, 200]
    assert after[3] == after[200] == "newcomer"


# What others know


@EACH
def test_both_forms_have_each_call(declared: Syscall) -> None:
    case = Case((usual(declared),))
    assert parse(dump(case)) == case
    assert wire.decode(wire.encode(case, X86), X86) == case


@EACH
def test_each_call_gets_simpler(declared: Syscall) -> None:
    case = Case((usual(declared),))
    least = minimize(case, lambda other: len(other.calls) == 1, X86)
    assert [call.name for call in least.calls] == [declared.name]


@EACH
def test_the_oracle_knows_each_call(declared: Syscall) -> None:
    assert declared.name in MEANINGS, (
        f"MEANINGS in fuzz/oracle/meanings.py must say what {declared.name} does to memory; "
        "UNMOVED if nothing"
    )


def test_the_oracle_knows_no_other_calls() -> None:
    assert MEANINGS.keys() == CALLS.keys()


@EACH
def test_the_grammar_tells_of_each_call(declared: Syscall) -> None:
    grammar = (ROOT / "corpus" / "README.md").read_text(encoding="utf-8")
    assert f"`{signature(declared.name)}" in grammar, (
        f"corpus/README.md must tell of `{signature(declared.name)}`"
    )
    for param in declared.params:
        for name in param.kind.names if isinstance(param.kind, Symbols) else ():
            word = name.removeprefix("MADV_")
            assert f"`{word}`" in grammar, f"corpus/README.md must tell of `{word}`"


# The registry


def test_numbers_and_names_are_unlike() -> None:
    one, other = CALLS["mlock"], CALLS["munlock"]
    assert list(in_order([other, one])) == ["mlock", "munlock"]
    with pytest.raises(ValueError, match="mlock and munlock have the same number, 5"):
        in_order([one, replace(other, number=5)])
    with pytest.raises(ValueError, match="same name"):
        in_order([one, replace(one, number=99)])


def test_numbers_stay() -> None:
    """The order is that of lists for people, and of who takes whose bytes."""
    numbers = {name: declared.number for name, declared in CALLS.items()}
    assert list(numbers.values()) == list(range(len(numbers)))
    assert numbers["mmap"] == 0
    assert numbers["@limit"] == 22


def test_calls_are_found_by_what_they_do() -> None:
    assert that_do(Does.MOVES) == {"mremap", "execve_stack", "relocate"}
    assert that_do(Does.MOVES | Does.REPLACES) == {"execve_stack", "relocate"}


def test_operands_may_be_left_out() -> None:
    assert call("mremap", 1, 2, 3, 4).args == (1, 2, 3, 4, 0)
    assert call("mmap", 1, 2, 3, 4).args == (1, 2, 3, 4, -1, 0)
    with pytest.raises(TypeError, match="munmap takes 2 operands, got 1"):
        call("munmap", 1)
    with pytest.raises(TypeError, match="munmap takes 2 operands, got 3"):
        call("munmap", 1, 2, 3)


def test_operands_are_cut_to_what_takes_them() -> None:
    advice = call("madvise", 0, 0, 0x1_0000_0004)
    assert as_made(advice, X86).args == (0, 0, 4)
    assert as_made(call("munmap", 1 << 40, 5), GEOMETRIES["i386"]).args == (0, 5)
    assert ADDR.is_word


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("munmap(0x7ffffff000, 0x2000)", "reaches outside the arena of 0x8000000000 bytes"),
        (
            "mmap(0, 0x8000000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_POPULATE)",
            "fills more than 64 MiB, the most that a call may",
        ),
        ("touch(0, 0x8000000)", "fills more than 64 MiB, the most that a call may"),
        (
            "mremap(0, 0x1000, 0x8000000, MREMAP_MAYMOVE)",
            "fills more than 64 MiB of locked memory, the most that a call may",
        ),
        (
            "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE, 3)",
            "asks for what the model has not: a file that no file() has made",
        ),
        (
            "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|0x80000)",
            "asks for what the model has not: the flags 0x80000",
        ),
        (
            "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_32BIT)",
            "asks for what the model has not: MAP_32BIT at a place that the kernel chooses",
        ),
        (
            "mmap(0, 0x1000, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_HUGETLB|MAP_HUGE_1GB)",
            "asks for what the model has not: huge pages of 1 GiB",
        ),
        (
            "fallocate(A, 0x10, 0, 4096)",
            "asks for what the model has not: the mode 0x10 of fallocate",
        ),
        ("fallocate(A, 0, 0, 0x8000000)", "fills more than 64 MiB, the most that a call may"),
        ("madvise(0, 0x1000, 100)", "asks for what the model has not: MADV_HWPOISON"),
    ],
)
def test_what_is_not_run_says_why(line: str, why: str) -> None:
    assert why_skipped(X86, parse_call(line)) == why


@pytest.mark.parametrize(
    ("geometry", "line", "taken"),
    [
        (
            "arm64-4k-48",
            "mremap(0x5a00000000001000, 0x1000, 0x1000, 3, 0x5a00000000002000)",
            "mremap(0x1000, 0x1000, 0x1000, 3, 0x5a00000000002000)",
        ),
        ("arm64-4k-48", "munmap(0x5a00000000001000, 0x1000)", "munmap(0x1000, 0x1000)"),
        ("arm64-4k-48", "munmap(0x5a80000000001000, 0x1000)", None),
        ("arm64-4k-48", "munmap(-0x1000, 0x1000)", None),
        ("arm64-4k-48", "mmap(0x5a00000000001000, 0x1000, 3, 0x22)", None),
        ("x86-64", "munmap(0x5a00000000001000, 0x1000)", None),
    ],
)
def test_tags_are_left_off(geometry: str, line: str, taken: str | None) -> None:
    """What the kernel takes of a call; None: the call as it is."""
    assert untagged(parse_call(line), GEOMETRIES[geometry]) == parse_call(taken or line)

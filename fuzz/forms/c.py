"""A call as the C of exported programs, and back: `read_call(format_call(call)) == call`.

What such a program prints of its calls is this C (`fuzz/export/parts/tell.c`), with a result behind
it: `touch(AT(0x200000), 0x3000) = 0`.
"""

import errno
import re

from engine.base.address import WORD_MASK
from engine.base.uapi import Errno
from fuzz.calls.file import FILE
from fuzz.calls.operand import FILES, Address, Choice, Descriptor, Flags, Number, Operand
from fuzz.calls.registry import CALLS, DIRECTIVES, call
from fuzz.calls.syscall import Returns
from fuzz.case import Call, Faults, Result
from fuzz.forms.lexical import Wrong
from fuzz.forms.results import format_result, read_result

END = "what is there now:"  # such a program says behind its calls, before it looks
_INT_MAX = 0x7FFFFFFF
# The function of a part that makes a call; others are the system call of their name.
_FUNCTIONS = {
    "touch": "touch",
    "peek": "peek",
    "uffd_register": "uffd_register",
    "uffd_wp": "uffd_wp",
    "uffd_rwp": "uffd_rwp",
    "file": "make_file",
    "bpf_map": "make_map",
    "fork": "fork_child",
    "exit_child": "end_children",
    "swapout": "swap_out",
    "soft_dirty_clear": "clear_soft_dirty",
}
_WITH_TABLES = "sys_mremap_with_tables"  # how many it may have is its first operand
_NAMES = {
    **{_FUNCTIONS.get(name, f"sys_{name}"): name for name in CALLS.keys() - DIRECTIVES},
    _WITH_TABLES: "mremap",
}
# By number: Python's errorcode has others for those that have two names.
_ERRORS = {getattr(errno, error.name): str(error) for error in Errno}
_FORM = re.compile(r"(\w+)\((.*)\)")
_AT = re.compile(r"AT\((.*)\)")
_CAST = re.compile(r"\((?:int|unsigned long)\)")
_DIGITS = re.compile(r"-?(?:0x[0-9a-f]{1,16}|0|[1-9]\d{0,19})")
_FILES = {f"FILE_{letter}": fd for letter, fd in FILES.items()}
_REFUSED = re.compile(r"-(\d+) \(.*\)")


def address(offset: int) -> str:
    """An address of the arena, by its offset in bytes."""
    return f"AT({offset:#x})"


def descriptor(fd: int) -> str:
    """A file descriptor, of one that a case has a letter for the name."""
    return next((name for name, number in _FILES.items() if number == fd), str(fd))


def format_call(one: Call, tables: int | None = None) -> str:
    """A call as C.

    Arguments: `tables` how many page tables an mremap may have that is short of memory; None: it is
    not.
    """
    params = CALLS[one.name].params
    function = _FUNCTIONS.get(one.name, f"sys_{one.name}")
    operands = [_operand(param.kind, value) for param, value in zip(params, one.args, strict=True)]
    if tables is not None:
        function, operands = _WITH_TABLES, [str(tables), *operands]
    return f"{function}({', '.join(operands)})"


def format_value(result: Result, page_bytes: int) -> str:
    """A result as C: a number or, of an access, a text.  Arguments: `page_bytes` of a page."""
    if isinstance(result, Faults):
        return f'"{format_result(result, page_bytes)}"'
    return result if isinstance(result, str) else number(result)


def _operand(kind: Operand, value: int) -> str:
    if isinstance(kind, Descriptor) or kind is FILE:
        return descriptor(value)
    match kind:
        case Address():
            return address(value)
        case Flags():
            return _flags(kind, value)
        case Choice():
            return kind.by_value.get(value) or _int(value)
        case Number():
            return str(value)
    return number(value)


def _flags(kind: Flags, value: int) -> str:
    """Names side by side, as `fuzz.forms.text` orders them."""
    left, names = value, []
    held = value & kind.number
    ordered = sorted(kind.names.items(), key=lambda item: item[0] not in kind.first)
    for name, bits in ordered:
        if bits and left & bits == bits:
            names.append(name)
            left &= ~bits
    if held and (called := {v: n for n, v in kind.numbers.items()}.get(held)):
        names.append(called)
        left &= ~held
    if left:
        names.append(number(left))
    return " | ".join(names) or kind.none or "0"


def _int(value: int) -> str:
    """What the kernel takes an int of."""
    return str(value) if value <= _INT_MAX else f"(int){value:#x}"


def number(value: int) -> str:
    """A number; one that takes more than 32 bits is cut where a word has no more."""
    cast = "(unsigned long)" if value > 0xFFFFFFFF else ""
    return f"{cast}{value & WORD_MASK:#x}" if value > 9 else str(value)


# --- And back -------------------------------------------------------------------------------------


def is_call(text: str) -> bool:
    """Is it a call of a case, and not another function of such a program?"""
    match = _FORM.fullmatch(text)
    return match is not None and match[1] in _NAMES


def read_call(text: str) -> Call:
    """A call, without its result.  Errors raised: Wrong."""
    match = _FORM.fullmatch(text)
    name = _NAMES.get(match[1]) if match is not None else None
    if match is None or name is None:
        raise Wrong(f"expected a call, found {text[:40]!r}", 0)
    words = match[2].split(", ") if match[2] else []
    words = words[1:] if match[1] == _WITH_TABLES else words
    params = CALLS[name].params
    if len(words) != len(params):
        raise Wrong(f"{len(words)} operands where {name} has {len(params)}", match.start(2))
    args = [_read(param.kind, word) for param, word in zip(params, words, strict=True)]
    for param, word, value in zip(params, words, args, strict=True):
        if not param.kind.low <= value <= param.kind.high:
            raise Wrong(f"{param.name} of {name} is never {word[:40]}", match.start(2))
    return call(name, *args)


def read_value(text: str, name: str, page_bytes: int, arena_bytes: int) -> Result:
    """The result of a call of that name as a program prints it.

    Arguments: `page_bytes` of a page, `arena_bytes` of the arena: what lies behind is OUT.
    Errors raised: Wrong.
    """
    if match := _REFUSED.fullmatch(text):
        return _ERRORS.get(int(match[1]), "-E?")
    if CALLS[name].returns is Returns.FAULTS:
        result = read_result(text, name, page_bytes)
        assert not isinstance(result, tuple) or isinstance(result, Faults)
        return result
    if match := _AT.fullmatch(text):
        offset = _number(match[1])
        return offset if offset < arena_bytes else "OUT"
    value = _number(text)
    return "OUT" if value and CALLS[name].returns is Returns.ADDRESS else value


def _read(kind: Operand, text: str) -> int:
    if isinstance(kind, Descriptor) or kind is FILE:
        return _FILES[text] if text in _FILES else _number(text)
    match kind:
        case Address():
            match = _AT.fullmatch(text)
            if match is None:
                raise Wrong(f"expected an address, found {text[:40]!r}", 0)
            return _number(match[1])
        case Flags():
            names = {**kind.names, **kind.numbers, kind.none: 0}
            value = 0
            for word in text.split(" | "):
                value |= names[word] if word in names else _number(word)
            return value
        case Choice() if text in kind.names:
            return kind.names[text]
    return _number(text)


def _number(text: str) -> int:
    digits = _CAST.sub("", text, count=1)
    if _DIGITS.fullmatch(digits) is None:
        raise Wrong(f"expected a number, found {text[:40]!r}", 0)
    return int(digits, 16 if "x" in digits else 10)

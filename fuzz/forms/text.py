"""The text form of a case: a strict parser, and the dumper that is its inverse.

One call a line in the syntax `strace` prints, header lines that start with `@`, comments that
start with `#`.  `corpus/README.md` describes the format for people.  Two laws hold:
`parse(dump(case)) == case`, and `dump(parse(text))` is a fixed point of `dump` after `parse`; so
both are in this file.

A call is read as if there were nothing else on its line, and if there is, by one regular
expression.  Only if that, or one of its operands, fails is the line read once more, slowly, to find
the column that is to blame.
"""

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache, lru_cache
from os import PathLike, fspath
from typing import NoReturn

from engine.base.address import WORD_MASK
from engine.base.geometry import UnknownName, geometry_named
from engine.base.kernel import Kernel, kernel_named
from fuzz.calls.operand import Amount, Choice, Flags, Number, Operand, Symbols
from fuzz.calls.registry import CALLS, DIRECTIVES
from fuzz.calls.syscall import Returns
from fuzz.case import (
    MAX_CALLS,
    MAX_CASE_BYTES,
    Call,
    Case,
    CaseError,
    Expectation,
    Faults,
    Result,
    limits_are_in_place,
)

PAGE_BYTES = Kernel("").geometry.page_bytes  # of a case that names neither kernel nor geometry
HEADERS = {  # fewest and most words that follow
    "@kernel": (1, 1),
    "@geometry": (1, 1),
    "@expect": (1, 2),
    "@found": (1, MAX_CASE_BYTES),
    "@hypothetical": (0, 0),
}
FAULTING = tuple(name for name, call in CALLS.items() if call.returns is Returns.FAULTS)

_BLANK = " \t"
_MARGIN = " \t\r"  # a carriage return may end a line
_NUMBER = re.compile(r"-?(?:0x[0-9a-fA-F]+|0|[1-9][0-9]*)")
_WORD = re.compile(r"[^ \t\r]+")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_SLUG = re.compile(r"[a-z0-9-]+")
_ERRNO = re.compile(r"-E[A-Z0-9]+")
_FAIL = re.compile(r"@fail(?![^ \t])")
_LIMIT = re.compile(r"@limit(?![^ \t])")
_RUN = re.compile(r"(SEGV|BUS)\[[ \t]*([^][,() \t]+)[ \t]*,[ \t]*([^][,() \t]+)[ \t]*\)")
_CALL = re.compile(
    r"[ \t]*([A-Za-z_]\w*)"  # the name
    r"\(([^]()=#[]*)\)"  # its operands
    r"(?:[ \t]*=[ \t]*([^#]*[^# \t\r]))?"  # the asserted result
    r"[ \t]*(?:#.*|\r)?",
    re.ASCII,
)


class _Wrong(Exception):
    """Why a piece of text is wrong, and at which offset of the piece, from 0."""

    def __init__(self, why: str, offset: int) -> None:
        super().__init__(why)
        self.why, self.offset = why, offset


# Operands


def _after(text: str, end: int) -> NoReturn:
    """Blame what follows an operand that is complete at offset `end`."""
    word = _WORD.search(text, end)
    if word is None or word.start() == end:  # a carriage return is no word
        raise _Wrong(f"expected ',' or ')', found {text[end]!r}", end)
    raise _Wrong(f"missing ',' before {word[0]!r}", word.start())


def _number(text: str, low: int = -(1 << 63), high: int = WORD_MASK) -> int:
    """The number that `text` is, in [low, high]."""
    match = _NUMBER.match(text)
    if match is None:
        found = _WORD.match(text)
        raise _Wrong(f"expected a number, found {found[0] if found else 'nothing'!r}", 0)
    end = match.end()
    if end < len(text):
        if text[end].isalnum() or text[end] == "_":
            word = text.split(maxsplit=1)[0]
            octal = "; a decimal number has no leading zero" if match[0].lstrip("-") == "0" else ""
            raise _Wrong(f"{word!r} is not a number{octal}", 0)
        _after(text, end)
    try:
        value = int(text, 0)
    except ValueError:  # more decimal digits than int() agrees to read
        value = high + 1
    if not low <= value <= high:
        raise _Wrong(f"{text[:24]} is out of range: {low:#x} to {high:#x}", 0)
    return value


@lru_cache(maxsize=16384)  # round numbers recur
def _word(text: str) -> int:
    """An address, a length or an offset; -n stands for 2^64 - n, as the kernel sees it."""
    return _number(text) & WORD_MASK


def _bounded(kind: Operand) -> Callable[[str], int]:
    """The reader of a number in the bounds of its kind."""
    low, high = kind.low, kind.high
    return lambda text: _number(text, low, high)


def _name(kind: Choice) -> Callable[[str], int]:
    """The reader of one of the names of a kind; no number can take its place."""
    names = kind.names

    def read(text: str) -> int:
        if text not in names:
            raise _Wrong(f"unknown {kind.meaning} {text!r}; known: {', '.join(names)}", 0)
        return names[text]

    return read


def _symbol(text: str, meaning: str, names: Mapping[str, int]) -> int:
    """One flag or advice: its name, or a number."""
    if not text:
        raise _Wrong("misplaced '|': expected a name or a number here", 0)
    if text in names:
        return names[text]
    match = _NAME.match(text)
    if match is None:
        return _number(text, 0)
    if match[0] in names:
        _after(text, match.end())
    close = get_close_matches(match[0], names, 1)
    hint = f"did you mean {close[0]}?" if close else f"valid: {', '.join(names)}"
    raise _Wrong(f"unknown {meaning} {match[0]!r}; {hint}", 0)


def _symbols(kind: Symbols) -> Callable[[str], int]:
    """The reader of a kind of operand that has names."""
    names = kind.names
    if isinstance(kind, Flags):
        none = {kind.none: 0} if kind.none else {}
        names = {**none, **names, **kind.numbers}

    @lru_cache(maxsize=512)
    def read(text: str) -> int:
        value = at = 0
        for part in text.split("|"):
            if at and not isinstance(kind, Flags):
                raise _Wrong(f"an {kind.meaning} is one value: '|' is for flags", at - 1)
            word = part.strip(_BLANK)
            at += len(part) - len(part.lstrip(_BLANK))
            try:
                value |= _symbol(word, kind.meaning, names)
            except _Wrong as wrong:
                raise _Wrong(wrong.why, at + wrong.offset) from None
            at += len(part.lstrip(_BLANK)) + 1
        return value

    return read


@cache
def _reader(kind: Operand) -> Callable[[str], int]:
    """The reader of a kind of operand."""
    match kind:
        case Choice(others=False):
            return _name(kind)
        case Symbols():
            return _symbols(kind)
        case Number() | Amount():
            return _bounded(kind)
        case _:
            return _word


_READERS = {name: tuple(_reader(p.kind) for p in call.params) for name, call in CALLS.items()}
_DEFAULTS = {name: tuple(p.default for p in call.params) for name, call in CALLS.items()}
_CALLS = frozenset(CALLS) - DIRECTIVES
_REQUIRED = {name: defaults.count(None) for name, defaults in _DEFAULTS.items()}


def signature(name: str) -> str:
    """A call with the names of its operands, as man pages write it: `mremap(…[, new_address])`.

    A directive as the README has it: `@fail KIND NTH`.
    """
    params = CALLS[name].params
    if name in DIRECTIVES:
        return " ".join((name, *(param.name.upper() for param in params)))
    required = ", ".join(param.name for param in params if param.default is None)
    optional = [param.name for param in params if param.default is not None]
    return f"{name}({required}{''.join(f'[, {each}' for each in optional)}{']' * len(optional)})"


# Results


def _result(text: str, name: str, page_bytes: int) -> Result:
    """What stands behind the `=` of a call of that name; `text` is not empty."""
    if text[0].isdigit():
        try:
            return _number(text, 0)
        except _Wrong as wrong:
            if wrong.offset:
                found = text[wrong.offset :]
                raise _Wrong(f"unexpected {found!r} after the result", wrong.offset) from None
            raise
    word = _WORD.match(text)
    assert word is not None
    if word[0] in ("SKIP", "OUT") or _ERRNO.fullmatch(word[0]):
        if word.end() < len(text):
            found = text[word.end() :].lstrip(_BLANK)
            raise _Wrong(f"unexpected {found!r} after the result", len(text) - len(found))
        return word[0]
    if word[0].startswith(("SEGV", "BUS")):
        return _faults(text, name, page_bytes)
    raise _Wrong(
        f"{word[0]!r} is not a result: expected a number, -ERRNO, SKIP, OUT, SEGV[…) or BUS[…)", 0
    )


def _faults(text: str, name: str, page_bytes: int) -> Faults:
    """The byte ranges of SEGV[start, end) BUS[start, end) as runs of pages."""
    if name not in FAULTING:
        raise _Wrong(f"only {' and '.join(FAULTING)} report faults, not {name}", 0)
    runs: dict[str, list[tuple[int, int]]] = {"SEGV": [], "BUS": []}
    at = 0
    while at < len(text):
        match = _RUN.match(text, at)
        if match is None:
            raise _Wrong("expected SEGV[START, END) or BUS[START, END)", at)
        bounds = []
        for group in (2, 3):
            try:
                bound = _number(match[group], 0)
            except _Wrong as wrong:
                raise _Wrong(wrong.why, match.start(group) + wrong.offset) from None
            if bound % page_bytes:
                raise _Wrong(f"{bound:#x} is not a multiple of the page size", match.start(group))
            bounds.append(bound // page_bytes)
        first, end = bounds
        if end <= first:
            raise _Wrong("the range is empty", match.start(2))
        kind = match[1]
        if kind == "SEGV" and runs["BUS"]:
            raise _Wrong("SEGV ranges come before BUS ranges", match.start())
        if runs[kind] and first <= sum(runs[kind][-1]):
            raise _Wrong("ranges go upwards, with a gap between them", match.start(2))
        runs[kind].append((first, end - first))
        at = match.end()
        rest = text[at:].lstrip(_BLANK)
        if rest and len(rest) == len(text) - at:
            raise _Wrong(f"expected a blank, found {rest[0]!r}", at)
        at = len(text) - len(rest)
    return Faults(tuple(runs["SEGV"]), tuple(runs["BUS"]))


def format_result(result: Result, page_bytes: int = PAGE_BYTES) -> str:
    """What follows the `=`.  Errors raised: ValueError for a value that no call can have."""
    if isinstance(result, int):
        if not 0 <= result <= WORD_MASK:
            raise ValueError(f"result {result} is not a 64-bit number")
        return f"{result:#x}" if result else "0"
    if isinstance(result, Faults):
        if not any(result):
            raise ValueError("faults without a range; a call without faults results in 0")
        return " ".join(
            f"{kind}[{first * page_bytes:#x}, {(first + count) * page_bytes:#x})"
            for kind, runs in (("SEGV", result.segv), ("BUS", result.bus))
            for first, count in runs
        )
    if result not in ("SKIP", "OUT") and not _ERRNO.fullmatch(result):
        raise ValueError(f"{result!r} is not a result")
    return result


# Calls


def _call(line: str, page_bytes: int) -> Call:
    """The call on a line.  Errors raised: _Wrong, whose offset counts from the line's start."""
    name, opened, operands = line[:-1].partition("(")
    if opened and line.endswith(")") and name in _CALLS:  # mostly there is nothing else
        args = _args(name, operands)
        if args is not None:
            return Call(name, args)
    match = _CALL.fullmatch(line)
    if match is None:
        _explain(line)
    name, operands, result = match.groups()
    args = _args(name, operands) if name in _CALLS else None
    if args is None:
        _explain(line)
    if result is None:
        return Call(name, args)
    try:
        return Call(name, args, _result(result, name, page_bytes))
    except _Wrong as wrong:
        raise _Wrong(wrong.why, match.start(3) + wrong.offset) from None


def _args(name: str, operands: str) -> tuple[int, ...] | None:
    """The operands of a call, with those that may be left out; None if something is wrong."""
    readers = _READERS[name]
    fields = operands.split(",") if operands.strip(_BLANK) else []
    given = len(fields)
    if not _REQUIRED[name] <= given <= len(readers):
        return None
    try:
        args = tuple([read(field.strip(_BLANK)) for read, field in zip(readers, fields)])  # noqa: B905
    except _Wrong:
        return None
    if given < len(readers):
        args += _DEFAULTS[name][given:]  # type: ignore[operator]  # no None from here on
    return args


def _explain(line: str) -> NoReturn:
    """Find out what is wrong with the call on a line, its result apart."""
    line = line.partition("#")[0].rstrip(_MARGIN)
    at = len(line) - len(line.lstrip(_BLANK))
    match = _NAME.match(line, at)
    if match is None:
        raise _Wrong("expected a call, a header line (@…) or a comment (#…)", at)
    name = match[0]
    if name not in CALLS:
        known = [each for each in CALLS if each not in DIRECTIVES]
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        raise _Wrong(f"unknown call {name!r}; {hint}", at)
    at = match.end()
    if line[at : at + 1] != "(":
        raise _Wrong(f"expected '(' after {name}", at)
    match = re.compile(r"[^]()=[]*").match(line, at + 1)
    assert match is not None
    if line[match.end() : match.end() + 1] != ")":
        # Point behind the last operand, where the parenthesis belongs.
        raise _Wrong("missing ')'", at + 1 + len(match[0].rstrip(_BLANK)))
    _explain_operands(name, match[0], at + 1)
    rest = line[match.end() + 1 :].lstrip(_BLANK)
    at = len(line) - len(rest)
    if rest == "=":
        raise _Wrong("'=' without a value", at)
    raise _Wrong(f"unexpected {rest!r} after the call", at)


def _explain_operands(name: str, operands: str, at: int) -> None:
    """Raise _Wrong for the first operand to blame, if any; the operands begin at offset `at`."""
    readers = _READERS[name]
    fields = operands.split(",") if operands.strip(_BLANK) else []
    for number, field in enumerate(fields):
        start = at + len(field) - len(field.lstrip(_BLANK))
        if not field.strip(_BLANK):
            raise _Wrong("misplaced ',': expected an operand here", start)
        if number == len(readers):
            raise _Wrong(f"too many operands: {signature(name)}", start)
        try:
            readers[number](field.strip(_BLANK))
        except _Wrong as wrong:
            why = f"{CALLS[name].params[number].name}: {wrong.why}"
            raise _Wrong(why, start + wrong.offset) from None
        at += len(field) + 1
    if len(fields) < _REQUIRED[name]:
        raise _Wrong(f"too few operands: {signature(name)}", at - 1 if fields else at)


def _directive(line: str) -> Call:
    """The directive on a line that begins with its name.  Errors raised: _Wrong."""
    first, *words = _WORD.finditer(line.partition("#")[0])
    name = first[0]
    readers = _READERS[name]
    if len(words) > len(readers):
        extra = words[len(readers)]
        raise _Wrong(f"unexpected {extra[0]!r}: {signature(name)}", extra.start())
    args = []
    for word, read in zip(words, readers, strict=False):
        try:
            args.append(read(word[0]))
        except _Wrong as wrong:
            raise _Wrong(wrong.why, word.start() + wrong.offset) from None
    if len(words) < len(readers):
        raise _Wrong(f"something is missing: {signature(name)}", first.start())
    return Call(name, tuple(args))


def _limit(line: str, limits: list[Call]) -> Call:
    """The `@limit` on a line, after others.  Errors raised: _Wrong."""
    limit = _directive(line)
    if any(limit.args[0] == other.args[0] for other in limits):
        name = format_operand(CALLS[limit.name].params[0].kind, limit.args[0])
        raise _Wrong(f"duplicate @limit {name}", line.index("@"))
    return limit


def parse_call(line: str, page_bytes: int = PAGE_BYTES) -> Call:
    """The call or directive on one line; `page_bytes` is the unit of the pages in `Faults`.

    Errors raised: CaseError with the column.
    """
    try:
        if line.lstrip(_MARGIN).startswith("@") and _WORD.findall(line)[0] in DIRECTIVES:
            return _directive(line)
        return _call(line, page_bytes)
    except _Wrong as wrong:
        raise _error(wrong, line) from None


@lru_cache(maxsize=1024)
def _flags(kind: Flags, value: int) -> str:
    """Flags as names; the bits that have none as one number."""
    if not value:
        return kind.none or "0"
    parts = []
    number = {number: name for name, number in kind.numbers.items()}.get(value & kind.number)
    if number is not None:
        value &= ~kind.number
    for name, bits in sorted(kind.names.items(), key=lambda item: item[0] not in kind.first):
        if value & bits == bits:
            parts.append(name)
            value &= ~bits
    parts += [] if number is None else [number]
    return "|".join(parts + [f"{value:#x}"] * bool(value))


def format_operand(kind: Operand, value: int) -> str:
    """One operand as text.  Errors raised: ValueError if it does not fit its type."""
    if not kind.low <= value <= kind.high:
        known = f"{kind.low:#x} to {kind.high:#x}"
        raise ValueError(f"{kind.meaning} {value:#x} is out of range: {known}")
    match kind:
        case Flags():
            return _flags(kind, value)
        case Choice():
            return kind.by_value.get(value) or str(value)
        case Number():
            return str(value)
        case Amount() if value % PAGE_BYTES:
            return str(value)
        case _:
            return f"{value:#x}"


def format_call(call: Call, page_bytes: int = PAGE_BYTES) -> str:
    """One line, without its end.  Optional operands at the end are left out if at their default.

    The result of a directive, which says nothing, is left out.

    Errors raised: KeyError for an unknown call; ValueError for a value that text cannot express.
    """
    params = CALLS[call.name].params
    if len(call.args) != len(params):
        raise ValueError(f"{signature(call.name)} with {len(call.args)} operands")
    shown = len(params)
    while shown and call.args[shown - 1] == params[shown - 1].default:
        shown -= 1
    operands = [format_operand(params[i].kind, call.args[i]) for i in range(shown)]
    if call.name in DIRECTIVES:
        return " ".join((call.name, *operands))
    line = f"{call.name}({', '.join(operands)})"
    return line if call.result is None else f"{line} = {format_result(call.result, page_bytes)}"


# Cases


class _Header:
    """What the header lines read so far have said."""

    def __init__(self) -> None:
        self.kernel: str | None = None
        self.geometry: str | None = None
        self.expects: list[Expectation] = []
        self.found: list[str] = []
        self.hypothetical = False

    def read(self, line: str) -> None:
        """Take one header line.  Errors raised: _Wrong."""
        words = list(_WORD.finditer(line))
        key, at = words[0][0], words[0].start()
        if key == "@found":  # its text may hold a '#'
            text = line[words[0].end() :].strip(_MARGIN)
            if not text:
                raise _Wrong("@found without a value", at)
            self.found.append(text)
            return
        words = list(_WORD.finditer(line.partition("#")[0]))
        key = words[0][0]
        if key not in HEADERS:
            known = (*HEADERS, *sorted(DIRECTIVES))
            close = get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise _Wrong(f"unknown header {key!r}; {hint}", at)
        least, most = HEADERS[key]
        values = [(word[0], word.start()) for word in words[1:]]
        if len(values) < least:
            raise _Wrong(f"{key} without a value", at)
        if len(values) > most:
            raise _Wrong(f"unexpected {values[most][0]!r} after {key}", values[most][1])
        if key == "@expect":
            self._expect(values, at)
        elif key == "@hypothetical":
            if self.hypothetical:
                raise _Wrong("duplicate @hypothetical", at)
            self.hypothetical = True
        else:
            field = key[1:]
            if getattr(self, field) is not None:
                raise _Wrong(f"duplicate {key}", at)
            name, column = values[0]
            _known(kernel_named if key == "@kernel" else geometry_named, name, column)
            setattr(self, field, name)

    def _expect(self, values: list[tuple[str, int]], at: int) -> None:
        """Take `@expect [KERNEL] ok|RULE`."""
        kernel = None
        if len(values) == 2:
            kernel, column = values[0]
            _known(kernel_named, kernel, column)
        outcome, column = values[-1]
        if not _SLUG.fullmatch(outcome):
            raise _Wrong(f"expected ok or the name of a rule, found {outcome!r}", column)
        if any(expect.kernel == kernel for expect in self.expects):
            of = f" {kernel}" if kernel else ""
            raise _Wrong(f"duplicate @expect{of}", at)
        self.expects.append(Expectation(kernel, outcome))


def _known(look_up: Callable[[str], object], name: str, offset: int) -> None:
    """Refuse a name that `look_up` does not know."""
    try:
        look_up(name)
    except UnknownName as unknown:
        raise _Wrong(str(unknown), offset) from None


def page_bytes_of(geometry: str | None, kernel: str | None) -> int:
    """Bytes of a page of a case with these headers.  Errors raised: UnknownName."""
    if geometry is not None:
        return geometry_named(geometry).page_bytes
    return kernel_named(kernel).geometry.page_bytes if kernel is not None else PAGE_BYTES


def _error(wrong: _Wrong, line: str, number: int = 1, file: str = "") -> CaseError:
    """What the user sees; a tab is shown as one blank so that the marker stays in its column."""
    source = line.rstrip(_MARGIN).replace("\t", " ")
    return CaseError(wrong.why, number, wrong.offset + 1, source, file)


def parse(text: str, file: str = "") -> Case:
    """The case that `text` describes; `file` only names it in errors.

    Errors raised: CaseError with line and column.
    """
    if len(text) > MAX_CASE_BYTES or len(text.encode(errors="surrogatepass")) > MAX_CASE_BYTES:
        raise CaseError(f"longer than {MAX_CASE_BYTES} bytes", file=file)
    header = _Header()
    comments: list[str] = []
    calls: list[Call] = []
    in_header = True  # no call yet; the limits stand in the header
    page_bytes = PAGE_BYTES
    for number, line in enumerate(text.split("\n"), 1):
        body = line.strip(_MARGIN)
        if not body:
            continue
        try:
            if body[0] == "#":
                if in_header:
                    comments.append(body[1:].removeprefix(" "))
            elif body[0] == "@" and not _FAIL.match(body):
                if not in_header:
                    raise _Wrong("header lines come before the first call", line.index("@"))
                if _LIMIT.match(body):
                    calls.append(_limit(line, calls))
                else:
                    header.read(line)
                    page_bytes = page_bytes_of(header.geometry, header.kernel)
            else:
                if len(calls) == MAX_CALLS:
                    raise _Wrong(f"more than {MAX_CALLS} calls", line.index(body[0]))
                calls.append(_directive(line) if body[0] == "@" else _call(line, page_bytes))
                in_header = False
        except _Wrong as wrong:
            raise _error(wrong, line, number, file) from None
    return Case(
        tuple(calls),
        header.kernel,
        header.geometry,
        tuple(header.expects),
        tuple(header.found),
        header.hypothetical,
        tuple(comments),
    )


def dump(case: Case) -> str:
    """The text of a case, in canonical form; lines end in a newline.

    Errors raised: UnknownName or ValueError for a case that text cannot express.
    """
    if not limits_are_in_place(case.calls):
        raise ValueError("limits stand before all calls, each of them once")
    for text in (*case.comments, *case.found):
        if "\n" in text or text != text.rstrip(_MARGIN):
            raise ValueError(f"{text!r} is not one line without blanks at its end")
    lines = [f"# {comment}" if comment else "#" for comment in case.comments]
    if case.kernel is not None:
        lines.append(f"@kernel {case.kernel}")
    if case.geometry is not None:
        lines.append(f"@geometry {case.geometry}")
    for kernel, outcome in case.expects:
        lines.append(f"@expect {kernel} {outcome}" if kernel else f"@expect {outcome}")
    for found in case.found:
        if not found or found != found.lstrip(_MARGIN):
            raise ValueError(f"@found {found!r} is empty or starts with a blank")
        lines.append(f"@found {found}")
    if case.hypothetical:
        lines.append("@hypothetical")
    page_bytes = page_bytes_of(case.geometry, case.kernel)
    lines += [format_call(call, page_bytes) for call in case.calls]
    return "".join(f"{line}\n" for line in lines)


def load(path: str | PathLike[str]) -> Case:
    """The case in a file.

    Errors raised: CaseError that names the file, also if it cannot be read, is not UTF-8 or is
    longer than MAX_CASE_BYTES.
    """
    file = fspath(path)
    try:
        with open(path, "rb") as stream:
            data = stream.read(MAX_CASE_BYTES + 1)
    except OSError as error:
        raise CaseError(f"cannot be read: {error.strerror}", file=file) from None
    if len(data) > MAX_CASE_BYTES:
        raise CaseError(f"longer than {MAX_CASE_BYTES} bytes", file=file)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        line = before.count("\n") + 1
        column = len(before) - (before.rfind("\n") + 1) + 1
        raise CaseError("not UTF-8", line, column, file=file) from None
    return parse(text, file)

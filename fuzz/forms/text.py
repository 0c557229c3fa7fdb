"""The text form of a case: a strict parser, and the dumper that is its inverse.

One call a line in the syntax `strace` prints, which may be folded behind `,` and `|`; header lines
that start with `@`, comments that start with `#`.  `corpus/README.md` describes the format for
people.  Two laws hold: `parse(dump(case)) == case`, and `dump(parse(text))` is a fixed point of
`dump` after `parse`; so both are in this file.

A call is read as if there were nothing else on its line, and if there is, by one regular
expression.  Only if that, or one of its operands, fails is the line read once more, slowly, to find
the column that is to blame.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache, lru_cache
from os import PathLike, fspath
from typing import NoReturn

from engine.base.address import WORD_MASK
from engine.base.geometry import geometry_named
from engine.base.kernel import kernel_named
from engine.base.points import ALWAYS_HELD
from fuzz.calls.actors import PREFIX
from fuzz.calls.operand import Amount, Choice, Descriptor, Flags, Number, Operand, Symbols
from fuzz.calls.registry import CALLS, DIRECTIVES
from fuzz.calls.waits import why_not
from fuzz.case import (
    MAX_CALLS,
    MAX_CASE_BYTES,
    Assertion,
    Call,
    Case,
    CaseError,
    Expectation,
    limits_are_in_place,
)
from fuzz.forms.assertions import ASSERTING, KINDS, format_assertion, read_assertion
from fuzz.forms.lexical import BLANK, MARGIN, WORD, Wrong, after, known_name, read_number
from fuzz.forms.results import PAGE_BYTES, format_result, read_result

HEADERS = {  # fewest and most words that follow
    "@kernel": (1, 1),
    "@geometry": (1, 1),
    "@like": (1, 1),
    "@expect": (1, 2),
    "@found": (1, MAX_CASE_BYTES),
    "@hypothetical": (0, 0),
}

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_GOES_ON = re.compile(r"[ \t]*(?:@at[ \t][^#:(]*:[ \t]*)?[A-Za-z_]\w*\([^#]*[,|][ \t\r]*", re.ASCII)
_SLUG = re.compile(r"[a-z0-9-]+")
_FAIL = re.compile(r"@fail(?![^ \t])")
_LIMIT = re.compile(r"@limit(?![^ \t])")
_AT = re.compile(r"@at(?![^ \t])")
_IN_BETWEEN = re.compile(r"[ \t]*@at[ \t]+([^ \t:#]+)[ \t]+([^ \t:#]+)[ \t]*:(.*)")
_CALL = re.compile(
    r"[ \t]*([A-Za-z_]\w*)"  # the name
    r"\(([^]()=#[]*)\)"  # its operands
    r"(?:[ \t]*=[ \t]*([^#]*[^# \t\r]))?"  # the asserted result
    r"[ \t]*(?:#.*|\r)?",
    re.ASCII,
)


# Operands


@lru_cache(maxsize=16384)  # round numbers recur
def _word(text: str) -> int:
    """An address, a length or an offset; -n stands for 2^64 - n, as the kernel sees it."""
    return read_number(text) & WORD_MASK


def _bounded(kind: Operand) -> Callable[[str], int]:
    """The reader of a number in the bounds of its kind."""
    low, high = kind.low, kind.high
    return lambda text: read_number(text, low, high)


def _name(kind: Choice) -> Callable[[str], int]:
    """The reader of one of the names of a kind; no number can take its place."""
    names = kind.names

    def read(text: str) -> int:
        if text not in names:
            raise Wrong(f"unknown {kind.meaning} {text!r}; known: {', '.join(names)}", 0)
        return names[text]

    return read


def _descriptor(kind: Descriptor) -> Callable[[str], int]:
    """The reader of a file descriptor: the letter of a file, or a number."""
    names = kind.names

    def read(text: str) -> int:
        return names[text] if text in names else read_number(text, kind.low, kind.high)

    return read


def _symbol(text: str, meaning: str, names: Mapping[str, int]) -> int:
    """One flag or advice: its name, or a number."""
    if not text:
        raise Wrong("misplaced '|': expected a name or a number here", 0)
    if text in names:
        return names[text]
    match = _NAME.match(text)
    if match is None:
        return read_number(text, 0)
    if match[0] in names:
        after(text, match.end())
    close = get_close_matches(match[0], names, 1)
    hint = f"did you mean {close[0]}?" if close else f"valid: {', '.join(names)}"
    raise Wrong(f"unknown {meaning} {match[0]!r}; {hint}", 0)


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
                raise Wrong(f"an {kind.meaning} is one value: '|' is for flags", at - 1)
            word = part.strip(BLANK)
            at += len(part) - len(part.lstrip(BLANK))
            try:
                value |= _symbol(word, kind.meaning, names)
            except Wrong as wrong:
                raise Wrong(wrong.why, at + wrong.offset) from None
            at += len(part.lstrip(BLANK)) + 1
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
        case Descriptor():
            return _descriptor(kind)
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

    A directive as the README has it: `@fail KIND NTH`, `@at POINT N: munmap(addr, len)`.
    """
    if (base := CALLS[name].base) is not None:
        return f"@at POINT N: {signature(base.name)}"
    params = CALLS[name].params
    if name in DIRECTIVES:
        return " ".join((name, *(param.name.upper() for param in params)))
    required = ", ".join(param.name for param in params if param.default is None)
    optional = [param.name for param in params if param.default is not None]
    return f"{name}({required}{''.join(f'[, {each}' for each in optional)}{']' * len(optional)})"


# Calls


def _call(line: str, page_bytes: int) -> Call:
    """The call on a line.  Errors raised: Wrong, whose offset counts from the line's start."""
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
        return Call(name, args, read_result(result, name, page_bytes))
    except Wrong as wrong:
        raise Wrong(wrong.why, match.start(3) + wrong.offset) from None


def _args(name: str, operands: str) -> tuple[int, ...] | None:
    """The operands of a call, with those that may be left out; None if something is wrong."""
    readers = _READERS[name]
    fields = operands.split(",") if operands.strip(BLANK) else []
    given = len(fields)
    if not _REQUIRED[name] <= given <= len(readers):
        return None
    try:
        args = tuple([read(field.strip(BLANK)) for read, field in zip(readers, fields)])  # noqa: B905
    except Wrong:
        return None
    if given < len(readers):
        args += _DEFAULTS[name][given:]  # type: ignore[operator]  # no None from here on
    return args


def _explain(line: str) -> NoReturn:
    """Find out what is wrong with the call on a line, its result apart."""
    line = line.partition("#")[0].rstrip(MARGIN)
    at = len(line) - len(line.lstrip(BLANK))
    match = _NAME.match(line, at)
    if match is None:
        raise Wrong("expected a call, a header line (@…) or a comment (#…)", at)
    name = match[0]
    if name not in CALLS:
        known = [each for each in CALLS if each not in DIRECTIVES]
        close = get_close_matches(name, known, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
        raise Wrong(f"unknown call {name!r}; {hint}", at)
    at = match.end()
    if line[at : at + 1] != "(":
        raise Wrong(f"expected '(' after {name}", at)
    match = re.compile(r"[^]()=[]*").match(line, at + 1)
    assert match is not None
    if line[match.end() : match.end() + 1] != ")":
        # Point behind the last operand, where the parenthesis belongs.
        raise Wrong("missing ')'", at + 1 + len(match[0].rstrip(BLANK)))
    _explain_operands(name, match[0], at + 1)
    rest = line[match.end() + 1 :].lstrip(BLANK)
    at = len(line) - len(rest)
    if rest == "=":
        raise Wrong("'=' without a value", at)
    raise Wrong(f"unexpected {rest!r} after the call", at)


def _explain_operands(name: str, operands: str, at: int) -> None:
    """Raise Wrong for the first operand to blame, if any; the operands begin at offset `at`."""
    readers = _READERS[name]
    fields = operands.split(",") if operands.strip(BLANK) else []
    for number, field in enumerate(fields):
        start = at + len(field) - len(field.lstrip(BLANK))
        if not field.strip(BLANK):
            raise Wrong("misplaced ',': expected an operand here", start)
        if number == len(readers):
            raise Wrong(f"too many operands: {signature(name)}", start)
        try:
            readers[number](field.strip(BLANK))
        except Wrong as wrong:
            why = f"{CALLS[name].params[number].name}: {wrong.why}"
            raise Wrong(why, start + wrong.offset) from None
        at += len(field) + 1
    if len(fields) < _REQUIRED[name]:
        raise Wrong(f"too few operands: {signature(name)}", at - 1 if fields else at)


def _directive(line: str) -> Call:
    """The directive on a line that begins with its name.  Errors raised: Wrong."""
    first, *words = WORD.finditer(line.partition("#")[0])
    name = first[0]
    readers = _READERS[name]
    if len(words) > len(readers):
        extra = words[len(readers)]
        raise Wrong(f"unexpected {extra[0]!r}: {signature(name)}", extra.start())
    args = []
    for word, read in zip(words, readers, strict=False):
        try:
            args.append(read(word[0]))
        except Wrong as wrong:
            raise Wrong(wrong.why, word.start() + wrong.offset) from None
    if len(words) < len(readers):
        raise Wrong(f"something is missing: {signature(name)}", first.start())
    return Call(name, tuple(args))


def _in_between(line: str, page_bytes: int) -> Call:
    """The `@at POINT N: CALL` on a line.  Errors raised: Wrong."""
    match = _IN_BETWEEN.match(line.partition("#")[0])
    if match is None:
        raise Wrong("expected @at POINT N: CALL", line.index("@"))
    point, nth, rest = match.groups()
    if point not in ALWAYS_HELD:
        close = get_close_matches(point, ALWAYS_HELD, 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(ALWAYS_HELD)}"
        raise Wrong(f"unknown point {point!r}; {hint}", match.start(1))
    at = match.start(3)
    try:
        made = _call(rest, page_bytes)
    except Wrong as wrong:
        raise Wrong(wrong.why, at + wrong.offset) from None
    if why := why_not(CALLS[made.name], point):
        raise Wrong(why, at + len(rest) - len(rest.lstrip(BLANK)))
    name = PREFIX + made.name
    kinds = [param.kind for param in CALLS[name].params]
    assert isinstance(kinds[0], Choice)
    try:
        visit = _reader(kinds[1])(nth)
    except Wrong as wrong:
        raise Wrong(wrong.why, match.start(2) + wrong.offset) from None
    return Call(name, (kinds[0].names[point], visit, *made.args), made.result)


def _limit(line: str, limits: list[Call]) -> Call:
    """The `@limit` on a line, after others.  Errors raised: Wrong."""
    limit = _directive(line)
    if any(limit.args[0] == other.args[0] for other in limits):
        name = format_operand(CALLS[limit.name].params[0].kind, limit.args[0])
        raise Wrong(f"duplicate @limit {name}", line.index("@"))
    return limit


def parse_call(line: str, page_bytes: int = PAGE_BYTES) -> Call:
    """The call or directive on one line; `page_bytes` is the unit of the pages in `Faults`.

    Errors raised: CaseError with the column.
    """
    try:
        if line.lstrip(MARGIN).startswith("@"):
            word = WORD.findall(line)[0]
            if word == "@at":
                return _in_between(line, page_bytes)
            if word in DIRECTIVES:
                return _directive(line)
        return _call(line, page_bytes)
    except Wrong as wrong:
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
        case Descriptor():
            return next((name for name, fd in kind.names.items() if fd == value), str(value))
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
    declared = CALLS[call.name]
    params = declared.params
    if declared.base is not None:
        point, nth, *args = call.args
        front = [format_operand(params[i].kind, value) for i, value in enumerate((point, nth))]
        made = Call(declared.base.name, tuple(args), call.result)
        return f"@at {' '.join(front)}: {format_call(made, page_bytes)}"
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
        self.like: str | None = None
        self.expects: list[Expectation] = []
        self.found: list[str] = []
        self.hypothetical = False

    def read(self, line: str) -> None:
        """Take one header line.  Errors raised: Wrong."""
        words = list(WORD.finditer(line))
        key, at = words[0][0], words[0].start()
        if key == "@found":  # its text may hold a '#'
            text = line[words[0].end() :].strip(MARGIN)
            if not text:
                raise Wrong("@found without a value", at)
            self.found.append(text)
            return
        words = list(WORD.finditer(line.partition("#")[0]))
        key = words[0][0]
        if key not in HEADERS:
            directives = {name.partition(" ")[0] for name in DIRECTIVES}
            known = (*HEADERS, *sorted(directives), *KINDS)
            close = get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise Wrong(f"unknown header {key!r}; {hint}", at)
        least, most = HEADERS[key]
        values = [(word[0], word.start()) for word in words[1:]]
        if len(values) < least:
            raise Wrong(f"{key} without a value", at)
        if len(values) > most:
            raise Wrong(f"unexpected {values[most][0]!r} after {key}", values[most][1])
        if key == "@expect":
            self._expect(values, at)
        elif key == "@hypothetical":
            if self.hypothetical:
                raise Wrong("duplicate @hypothetical", at)
            self.hypothetical = True
        else:
            field = key[1:]
            if getattr(self, field) is not None:
                raise Wrong(f"duplicate {key}", at)
            name, column = values[0]
            known_name(geometry_named if key == "@geometry" else kernel_named, name, column)
            setattr(self, field, name)

    def _expect(self, values: list[tuple[str, int]], at: int) -> None:
        """Take `@expect [KERNEL] ok|RULE`."""
        kernel = None
        if len(values) == 2:
            kernel, column = values[0]
            known_name(kernel_named, kernel, column)
        outcome, column = values[-1]
        if not _SLUG.fullmatch(outcome):
            raise Wrong(f"expected ok or the name of a rule, found {outcome!r}", column)
        if any(expect.kernel == kernel for expect in self.expects):
            of = f" {kernel}" if kernel else ""
            raise Wrong(f"duplicate @expect{of}", at)
        self.expects.append(Expectation(kernel, outcome))


def page_bytes_of(geometry: str | None, kernel: str | None) -> int:
    """Bytes of a page of a case with these headers.  Errors raised: UnknownName."""
    if geometry is not None:
        return geometry_named(geometry).page_bytes
    return kernel_named(kernel).geometry.page_bytes if kernel is not None else PAGE_BYTES


def _error(wrong: Wrong, line: str, number: int = 1, file: str = "") -> CaseError:
    """What the user sees; a tab is shown as one blank so that the marker stays in its column."""
    source = line.rstrip(MARGIN).replace("\t", " ")
    return CaseError(wrong.why, number, wrong.offset + 1, source, file)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines, with their numbers; one of a call that ends in `,` or `|` goes on in the next."""
    lines = enumerate(text.split("\n"), 1)
    for number, line in lines:
        if not _GOES_ON.fullmatch(line):
            yield number, line
            continue
        pieces = [line.rstrip(MARGIN)]
        for _, more in lines:
            pieces.append(more.strip(MARGIN))
            if "#" in more or not pieces[-1].endswith((",", "|")):
                break
        yield number, " ".join(pieces)


def parse(text: str, file: str = "") -> Case:
    """The case that `text` describes; `file` only names it in errors.

    Errors raised: CaseError with line and column.
    """
    if len(text) > MAX_CASE_BYTES or len(text.encode(errors="surrogatepass")) > MAX_CASE_BYTES:
        raise CaseError(f"longer than {MAX_CASE_BYTES} bytes", file=file)
    header = _Header()
    comments: list[str] = []
    calls: list[Call] = []
    assertions: list[Assertion] = []
    in_header = True  # no call yet; the limits stand in the header
    page_bytes = PAGE_BYTES
    for number, line in _lines(text):
        body = line.strip(MARGIN)
        if not body:
            continue
        try:
            if body[0] == "#":
                if in_header:
                    comments.append(body[1:].removeprefix(" "))
            elif ASSERTING.match(body):
                if in_header:
                    raise Wrong("nothing can be asserted before the first call", line.index("@"))
                assertions.append(read_assertion(line, len(calls), page_bytes))
            elif body[0] == "@" and not _FAIL.match(body) and not _AT.match(body):
                if not in_header:
                    raise Wrong("header lines come before the first call", line.index("@"))
                if _LIMIT.match(body):
                    calls.append(_limit(line, calls))
                else:
                    header.read(line)
                    page_bytes = page_bytes_of(header.geometry, header.kernel)
            else:
                if len(calls) == MAX_CALLS:
                    raise Wrong(f"more than {MAX_CALLS} calls", line.index(body[0]))
                read = _call if body[0] != "@" else _in_between if _AT.match(body) else None
                calls.append(read(line, page_bytes) if read else _directive(line))
                in_header = False
        except Wrong as wrong:
            raise _error(wrong, line, number, file) from None
    return Case(
        tuple(calls),
        header.kernel,
        header.geometry,
        tuple(header.expects),
        tuple(header.found),
        header.hypothetical,
        tuple(comments),
        tuple(assertions),
        header.like,
    )


def dump(case: Case) -> str:
    """The text of a case, in canonical form; lines end in a newline.

    Errors raised: UnknownName or ValueError for a case that text cannot express.
    """
    if not limits_are_in_place(case.calls):
        raise ValueError("limits stand before all calls, each of them once")
    for text in (*case.comments, *case.found):
        if "\n" in text or text != text.rstrip(MARGIN):
            raise ValueError(f"{text!r} is not one line without blanks at its end")
    lines = [f"# {comment}" if comment else "#" for comment in case.comments]
    if case.kernel is not None:
        lines.append(f"@kernel {case.kernel}")
    if case.geometry is not None:
        lines.append(f"@geometry {case.geometry}")
    if case.like is not None:
        lines.append(f"@like {case.like}")
    for kernel, outcome in case.expects:
        lines.append(f"@expect {kernel} {outcome}" if kernel else f"@expect {outcome}")
    for found in case.found:
        if not found or found != found.lstrip(MARGIN):
            raise ValueError(f"@found {found!r} is empty or starts with a blank")
        lines.append(f"@found {found}")
    if case.hypothetical:
        lines.append("@hypothetical")
    page_bytes = page_bytes_of(case.geometry, case.kernel)
    held = iter(case.assertions)
    due = next(held, None)
    for number, call in enumerate(case.calls, 1):
        lines.append(format_call(call, page_bytes))
        while due is not None and due.after == number:
            lines.append(format_assertion(due))
            due = next(held, None)
    if due is not None:
        raise ValueError("assertions stand behind calls, in order")
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
    return parse_bytes(data, file)


def parse_bytes(data: bytes, file: str) -> Case:
    """The case that the bytes of a file are.

    Arguments: `data` may be cut behind MAX_CASE_BYTES + 1; `file` names it in errors.
    Errors raised: CaseError, as `load` does.
    """
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

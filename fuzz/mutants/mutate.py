"""Mutants of a module: small changes of its text, each of which should be noticed by somebody.

A mutant is one replacement in the source.  What is changed: comparisons, arithmetic and bit
operations, and/or/not, constants (±1), conditions (True, False), operands of `and`, `or` and `|`
left out, min/max and any/all, what a function returns, statements left out.  What is not, because
it is no behaviour of the model: assertions and what reports a broken rule, docstrings and other
strings, annotations, functions that return text, announcements to listeners, and imports.

    source      the header of a statement       a node in it        a variant       the mutant
    if a < b:   "if a < b:"                     Compare(a, <, b)    a <= b          "if a <= b:"
        f()
"""

import ast
import hashlib
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import unified_diff
from itertools import accumulate
from pathlib import Path

_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
}
_TWINS = {"min": "max", "max": "min", "any": "all", "all": "any"}
_CHECKS = frozenset(("report", "report_occupied", "_report_leaf", "announce", "_locks"))


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module.

    `module` and `function` (its qualified name, empty at the level of the module) say where;
    `was` and `now` are the statement it changes, without what is nested in it; `nth` counts, from
    1, the changes in the function that read alike.  `[start, end)` are bytes of the source that
    `text` replaces; `lines` the first and last line of the statement if it is part of a function,
    and so runs only when these lines do.
    """

    module: str
    function: str
    operator: str
    was: str
    now: str
    nth: int
    start: int
    end: int
    text: str
    lines: tuple[int, int] | None

    @property
    def key(self) -> tuple[str, str, str, str, str, int]:
        """What stays the same while other parts of the file change."""
        return self.module, self.function, self.operator, self.was, self.now, self.nth

    @property
    def id(self) -> str:
        """Short name: the module and a hash of the key."""
        digest = hashlib.blake2b(repr(self.key).encode(), digest_size=4).hexdigest()
        return f"{self.module.rpartition('.')[2]}-{digest}"

    def apply(self, source: bytes) -> bytes:
        """The source of the mutated module."""
        return source[: self.start] + self.text.encode() + source[self.end :]

    def diff(self, source: bytes) -> str:
        """The change as a patch, to be applied with `patch -p1`."""
        path = f"{self.module.replace('.', '/')}.py"
        before, after = (
            text.decode().splitlines(keepends=True) for text in (source, self.apply(source))
        )
        return "".join(unified_diff(before, after, f"a/{path}", f"b/{path}", n=1))


def source_path(root: Path, module: str) -> Path:
    """Where a module of the tree lies."""
    return root.joinpath(*module.split(".")).with_suffix(".py")


def mutants_of(source: bytes, module: str) -> list[Mutant]:
    """Every mutant of a module, in the order of its text."""
    lines = source.splitlines(keepends=True)
    starts = (0, *accumulate(map(len, lines)))
    seen: Counter[tuple[str, ...]] = Counter()
    mutants = []
    for statement, function in _statements(ast.parse(source).body, "", "", False):
        start = starts[statement.lineno - 1] + statement.col_offset
        end = _header_end(statement, starts)
        header = source[start:end].decode()
        is_def = isinstance(statement, ast.FunctionDef)
        last = bisect_right(starts, start + len(source[start:end].rstrip()) - 1)
        place = (statement.lineno, last) if function and not is_def else None
        # A nested function belongs to what is around it, its defaults as well.
        for change in _changes(header, has_body=hasattr(statement, "body")):
            told = (function, change.operator, change.was, change.now)
            seen[told] += 1
            whole = change.start is None
            first, stop = (0, len(header)) if whole else (change.start or 0, change.end)
            if whole and hasattr(statement, "body"):
                continue
            mutants.append(
                Mutant(
                    module,
                    *told,
                    seen[told],
                    start + len(header[:first].encode()),
                    start + len(header[:stop].encode()),
                    change.text,
                    place,
                )
            )
    return sorted(mutants, key=lambda mutant: (mutant.start, mutant.end))


def _statements(
    body: list[ast.stmt], function: str, qualified: str, inside: bool
) -> Iterator[tuple[ast.stmt, str]]:
    """Every statement that may be changed, with the function it runs in."""
    for statement in body:
        name = getattr(statement, "name", "")
        if isinstance(statement, ast.FunctionDef) and _only_tells(statement):
            continue
        if _only_checks(statement):
            continue
        if not isinstance(
            statement,
            ast.Import | ast.ImportFrom | ast.ClassDef | ast.Try | ast.Raise,
        ):
            yield statement, function
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            below = f"{qualified}.{name}" if qualified else name
            is_def = isinstance(statement, ast.FunctionDef)
            yield from _statements(
                statement.body, below if is_def else function, below, inside or is_def
            )
            continue
        for part in _BODIES:
            for child in getattr(statement, part, ()):
                if isinstance(child, ast.ExceptHandler | ast.match_case):
                    yield from _statements(child.body, function, qualified, inside)
                else:
                    yield from _statements([child], function, qualified, inside)


def _only_tells(function: ast.FunctionDef) -> bool:
    """Does it make text, or tell the listeners?"""
    return function.name in _CHECKS or _name(function.returns or function) == "str"


def _only_checks(statement: ast.stmt) -> bool:
    """Does it report a broken rule, or tell the listeners, and nothing else?"""
    match statement:
        case ast.Assert():
            return True
        case ast.Expr(value=ast.Call(func=func)):
            return _name(func) in _CHECKS
        case ast.If(body=body, orelse=[]):
            return all(map(_only_checks, body))
        case ast.For(body=body, orelse=[]):
            # A place may be computed for the report.
            *before, last = body
            return _only_checks(last) and all(isinstance(one, ast.Assign) for one in before)
    return False


def _header_end(statement: ast.stmt, starts: tuple[int, ...]) -> int:
    """Where the part of a statement ends that is its own: before its body, if it has one."""
    body = getattr(statement, "body", None)
    if not body:
        assert statement.end_lineno is not None and statement.end_col_offset is not None
        return starts[statement.end_lineno - 1] + statement.end_col_offset
    first: ast.stmt | ast.pattern | ast.match_case = body[0]
    if isinstance(first, ast.match_case):
        first = first.pattern
    decorators = getattr(first, "decorator_list", ())
    line: int = min([first.lineno, *(decorator.lineno for decorator in decorators)])
    return starts[line - 1] + first.col_offset


@dataclass(frozen=True, slots=True)
class _Change:
    """A change of a header: characters [start, end) become `text`; `start` None: all of it."""

    operator: str
    was: str
    now: str
    start: int | None
    end: int
    text: str


_Place = tuple[ast.AST, str, int | None]  # parent, field, position in a list


def _changes(header: str, *, has_body: bool) -> Iterator[_Change]:
    parsed = _parse(header, has_body)
    if parsed is None:
        return
    was = _unparsed(parsed, has_body)
    lines = header.splitlines(keepends=True)
    starts = (0, *accumulate(map(len, lines)))
    if not has_body:
        for operator, text in _without(parsed):
            yield _Change(operator, was, text, None, 0, text)
    places = list(_places(parsed))
    for number, place in enumerate(places):
        node = _get(place)
        for variant, (operator, _) in enumerate(_variants(node, place)):
            copy = _parse(header, has_body)
            assert copy is not None
            spot = list(_places(copy))[number]
            replacement = list(_variants(_get(spot), spot))[variant][1]
            _put(spot, replacement)
            now = _unparsed(copy, has_body)
            if now == was:
                continue
            if isinstance(node, ast.operator):  # it has no place of its own
                start, end, text = 0, len(header), now
            else:
                start, end = _span(node, lines, starts)
                text = ast.unparse(ast.fix_missing_locations(replacement))
            for candidate in (text, f"({text})"):
                again = _parse(header[:start] + candidate + header[end:], has_body)
                if again is not None and _unparsed(again, has_body) == now:
                    yield _Change(operator, was, now, start, end, candidate)
                    break


def _parse(header: str, has_body: bool) -> ast.stmt | None:
    """The statement of a header; None if it is none."""
    if header.startswith("elif"):
        header = "if  " + header[4:]  # places stay the same
    try:
        body = ast.parse(header + "pass" if has_body else header).body
    except SyntaxError:
        return None
    return body[0]


def _unparsed(statement: ast.stmt, has_body: bool) -> str:
    text = ast.unparse(ast.fix_missing_locations(statement))
    return text.removesuffix("\n    pass") if has_body else text


def _without(statement: ast.stmt) -> Iterator[tuple[str, str]]:
    """What may stand in place of a whole simple statement."""
    match statement:
        case ast.Expr(value=ast.Constant()):
            return
        case ast.Return(value=None) | ast.Continue() | ast.Break() | ast.Delete() | ast.AugAssign():
            yield "statement", "pass"
        case ast.Return(value=value) if not isinstance(value, ast.Constant):
            yield "return", "return None"
        case ast.Expr(value=ast.Call() | ast.Yield() | ast.YieldFrom()):
            yield "statement", "pass"
        case (
            ast.Assign(targets=[ast.Attribute() | ast.Subscript()])
            | ast.AnnAssign(target=ast.Attribute() | ast.Subscript())
        ):
            yield "statement", "pass"


def _places(statement: ast.stmt) -> Iterator[_Place]:
    """Every expression of a header that may be changed, from the outside in."""
    match statement:
        case ast.FunctionDef(args=arguments):
            for field in ("defaults", "kw_defaults"):
                for position, default in enumerate(getattr(arguments, field)):
                    if default is not None:
                        yield from _below((arguments, field, position))
            return
        case ast.AugAssign():
            yield statement, "op", None
    for field in ("test", "iter", "subject", "value", "targets", "target", "items"):
        value = getattr(statement, field, None)
        if isinstance(value, list):
            for position in range(len(value)):
                yield from _below((statement, field, position))
        elif value is not None:
            yield from _below((statement, field, None))


def _below(place: _Place) -> Iterator[_Place]:
    node = _get(place)
    if isinstance(node, ast.JoinedStr):
        return
    if isinstance(node, ast.Call) and _name(node.func) == "Violation":
        return
    if isinstance(node, ast.expr):
        yield place
    for field, value in ast.iter_fields(node):
        if isinstance(value, list):
            for position, child in enumerate(value):
                if isinstance(child, ast.AST):
                    yield from _below((node, field, position))
        elif isinstance(value, ast.expr):
            yield from _below((node, field, None))


def _get(place: _Place) -> ast.AST:
    parent, field, position = place
    value = getattr(parent, field)
    found: ast.AST = value if position is None else value[position]
    return found


def _put(place: _Place, node: ast.AST) -> None:
    parent, field, position = place
    if position is None:
        setattr(parent, field, node)
    else:
        getattr(parent, field)[position] = node


def _name(node: ast.AST) -> str:
    """What is called: `f` of `f(x)` and `a.f(x)`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _span(node: ast.AST, lines: list[str], starts: tuple[int, ...]) -> tuple[int, int]:
    """Characters of a header that an expression takes."""

    def at(line: int, column: int) -> int:
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    assert isinstance(node, ast.expr)
    assert node.end_lineno is not None and node.end_col_offset is not None
    return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)


def _variants(node: ast.AST, place: _Place) -> Iterator[tuple[str, ast.AST]]:
    """What may stand in place of an expression."""
    _, field, _ = place
    if field in ("test", "ifs") and not isinstance(node, ast.Constant):
        yield "condition", ast.Constant(True)
        yield "condition", ast.Constant(False)
    match node:
        case ast.operator() if type(node) in _ARITHMETIC:
            yield "arithmetic", _ARITHMETIC[type(node)]()
        case ast.Compare(left=left, ops=ops, comparators=comparators):
            for position, op in enumerate(ops):
                for other in _COMPARISONS[type(op)]:
                    changed = [*ops[:position], other(), *ops[position + 1 :]]
                    yield "comparison", ast.Compare(left, changed, comparators)
        case ast.BinOp(left=left, op=op, right=right):
            other_op = _ARITHMETIC.get(type(op))
            if other_op is not None and not _is_text(left):
                yield "arithmetic", ast.BinOp(left, other_op(), right)
            if isinstance(op, ast.BitOr):
                yield "flag", left
                yield "flag", right
        case ast.BoolOp(op=op, values=values):
            yield "logic", ast.BoolOp(ast.Or() if isinstance(op, ast.And) else ast.And(), values)
            for position in range(len(values)):
                rest = [*values[:position], *values[position + 1 :]]
                yield "operand", rest[0] if len(rest) == 1 else ast.BoolOp(op, rest)
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub(), operand=operand):
            yield "unary", operand
        case ast.Constant(value=bool(value)):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int(value)):
            yield "constant", ast.Constant(value + 1)
            if value:
                yield "constant", ast.Constant(value - 1)
        case ast.Name(id=name) if field == "func" and name in _TWINS:
            yield "twin", ast.Name(_TWINS[name], ast.Load())


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str)
    )

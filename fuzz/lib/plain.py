"""Records as plain data, which JSON can say, and back: what comes in is checked, never executed.

A record is a dataclass or a NamedTuple whose fields are declared as str, int, float, bool, bytes,
Literal, `X | None`, `tuple[X, ...]`, or records.  As plain data it is a dictionary by field, a
tuple is a list, bytes are base64.
"""

import base64
import binascii
import dataclasses
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


class PlainError(ValueError):
    """What came in is not what it should be; the message says where, and why."""


class Message:
    """A dataclass that is a record, and goes over a wire by itself."""

    __slots__ = ()

    def plain(self) -> dict[str, Any]:
        """What goes there: nothing but what JSON can say."""
        told: dict[str, Any] = plain(self)
        return told


def plain(value: Any) -> Any:
    """A record, or what its fields may hold, as plain data."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    kind: Any = type(value)
    if fields := _fields(kind):
        return {name: plain(getattr(value, name)) for name in fields}
    if isinstance(value, (tuple, list)):
        return [plain(one) for one in value]
    return value


def parsed(kind: type[T], data: object, where: str) -> T:
    """The record of that kind which plain data stands for.

    Arguments: `where` what the data is called in messages, `report` for instance.
    Errors raised: PlainError, for fields that are missing or unknown, too.
    """
    found: T = _parsed(kind, data, where)
    return found


def _parsed(kind: Any, data: object, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if data is None and type(None) in arguments:
            return None
        (kind,) = (one for one in arguments if one is not type(None))
        return _parsed(kind, data, where)
    if origin is Literal:
        if data not in arguments:
            raise PlainError(f"{where}: {data!r} is none of {', '.join(map(repr, arguments))}")
        return data
    if origin is tuple:
        return tuple(
            _parsed(arguments[0], one, f"{where}[{i}]")
            for i, one in enumerate(_of(list, data, where))
        )
    if fields := _fields(kind):
        return _record(kind, fields, data, where)
    if kind is bytes:
        text = _of(str, data, where)
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):  # ValueError: it is not ASCII
            raise PlainError(f"{where}: no base64") from None
    if kind is float:
        try:
            return float(_of((int, float), data, where))
        except OverflowError:
            raise PlainError(f"{where}: too great") from None
    return _of(kind, data, where)


def _record(kind: Any, fields: Mapping[str, Any], data: object, where: str) -> Any:
    given: dict[str, object] = _of(dict, data, where)
    if odd := [name for name in given if name not in fields]:
        raise PlainError(f"{where}: unknown field {odd[0]!r}")
    if missing := [name for name in fields if name not in given]:
        raise PlainError(f"{where}: {missing[0]} is missing")
    return kind(
        **{name: _parsed(one, given[name], f"{where}.{name}") for name, one in fields.items()}
    )


def _of(kind: Any, data: object, where: str) -> Any:
    """The data, if it is of a type; True is no number."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(data, kinds) or (isinstance(data, bool) and bool not in kinds):
        wanted = " or ".join(one.__name__ for one in kinds)
        raise PlainError(f"{where}: {type(data).__name__} in place of {wanted}")
    return data


@cache
def _fields(kind: Any) -> Mapping[str, Any]:
    """The fields of a record and their types; empty if it is none."""
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    if isinstance(kind, type) and issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return get_type_hints(kind)
    return {}

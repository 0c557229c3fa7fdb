"""Is what a violation says in the words of its reader?"""

import re
from collections.abc import Iterator

from engine.base.geometry import GEOMETRIES
from engine.base.violation import Violation

# What Python prints of its own values: names of classes, quotes, braces, tuples and lists.
_REPR = re.compile(
    r"<\w|\w=|['\"{}]|\b(None|True|False|frozenset)\b|,\)|\(\)|\w\(\w+\(|\[(?!0x|-0x)"
)
_NUMBER = re.compile(r"(?<!-)0x[0-9a-f]+")
_BITS = re.compile(r"(flags|entry|bits|frame|features) 0x")
_ARENAS = [each.arena for each in GEOMETRIES.values() if each.arena.start]
_HIDDEN = [  # addresses, and page offsets that follow from them, as they really are
    range(arena.start >> shift, arena.end >> shift) for arena in _ARENAS for shift in (0, 12)
]


def objections(violation: Violation) -> Iterator[str]:
    """What a reader cannot understand of what was found and expected."""
    for text in (violation.found, violation.expected):
        if not text or _REPR.search(text):
            yield f"{violation.rule}: a value as Python has it: {text!r}"
        if _BITS.search(text):
            yield f"{violation.rule}: bits without names: {text!r}"
        numbers = [int(number, 16) for number in _NUMBER.findall(text)]
        if any(number in hidden for number in numbers for hidden in _HIDDEN):
            yield f"{violation.rule}: no offset into the arena: {text!r}"

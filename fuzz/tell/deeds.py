"""What others do in the middle of a call, in a line."""

from engine.state.space import AddressSpace
from fuzz.calls.actors import Deed
from fuzz.calls.registry import as_result
from fuzz.case import Call
from fuzz.forms.text import format_call


def done(space: AddressSpace, deed: Deed) -> str:
    """What somebody else has done, with its result if it is at its end."""
    base, result = deed.actor.base, as_result(space, deed.actor.returned)
    args = list(deed.actor.args)
    for index in base.addresses:
        args[index] -= space.arena.start
    if deed.actor.walk is not None:
        made = format_call(Call(base.name, tuple(args)), space.geometry.page_bytes)
        return f"{made} comes to the lock of a table"
    return format_call(Call(base.name, tuple(args), result), space.geometry.page_bytes)

"""What others do to memory in the middle of a call."""

from fuzz.case import Between, Call, Faults
from fuzz.oracle import effects
from fuzz.oracle.failed import follow_failure
from fuzz.oracle.memory import minus
from fuzz.oracle.world import World


def follow_between(world: World, made: Between) -> None:
    """Follow what somebody else did in the middle of a call, before the call itself.

    Memory is still where the call finds it: what was done to a page at its new place is done to
    it at the old one; unless the call is over (`Between.behind`).
    """
    memory, name, args = world.memory, made.call.name, made.call.args
    if name == "touch":
        lo, hi = world.units.range(*args) if args[1] else (0, 0)
        faults = made.call.result if isinstance(made.call.result, Faults) else Faults()
        refused = sorted([(p, p + n) for p, n in (*faults.segv, *faults.bus)])
        for start, end in minus((lo, hi), refused):
            for page in range(start, end):
                home = _home(world, made, page)
                for area in memory.inside(home, home + 1):
                    tag = memory.next_tag + page - lo
                    memory.write(area, range(tag, tag + 1))
        memory.next_tag += hi - lo
    elif name == "swapout":
        lo, hi = world.units.range(*args)
        memory.doubt(lo, hi)
        memory.doubt(_home(world, made, lo), _home(world, made, hi - 1) + 1)
    elif name == "collapse_file":
        home = _home(world, made, world.units.page(args[0]))
        for at in {args[0], home * world.units.page_bytes}:
            effects.collapse_file(world, (at,), 0)
    elif name == "ftruncate" and made.call.result == 0:
        effects.ftruncate(world, args, 0)
    elif name == "fallocate" and made.call.result == 0:
        effects.fallocate(world, args, 0)
    elif name == "madvise":
        _advised(world, made.call)


def _advised(world: World, call: Call) -> None:
    """Advice of memory that does not move, or is where it has gone."""
    world.may_copy(*world.units.range(call.args[0], call.args[1]))
    if call.result == 0:
        effects.madvise(world, call.args, 0)
    else:
        follow_failure(world, call, str(call.result), None, None)


def _home(world: World, made: Between, page: int) -> int:
    """Where a page was before the call that moves it, by where it is in the middle of that."""
    at = page * world.units.page_bytes
    for low, high, ahead in () if made.behind else made.went:
        if low <= at < high:
            return (at - ahead) // world.units.page_bytes
    return page

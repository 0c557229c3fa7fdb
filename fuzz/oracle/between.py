"""What others do to memory in the middle of a call."""

from fuzz.case import Between, Call, Faults, Result
from fuzz.oracle import effects
from fuzz.oracle.memory import minus
from fuzz.oracle.world import World


def follow_between(world: World, call: Call, result: Result, made: Between) -> None:
    """Follow what somebody else did in the middle of a call, before the call itself.

    Memory is still where the call finds it: what was done to a page at its new place is done to
    it at the old one.
    """
    memory, name, args = world.memory, made.call.name, made.call.args
    if name == "touch":
        lo, hi = world.units.range(*args) if args[1] else (0, 0)
        faults = made.call.result if isinstance(made.call.result, Faults) else Faults()
        refused = sorted([(p, p + n) for p, n in (*faults.segv, *faults.bus)])
        for start, end in minus((lo, hi), refused):
            for page in range(start, end):
                home = _home(world, call, result, page) if made.moving else page
                for area in memory.inside(home, home + 1):
                    tag = memory.next_tag + page - lo
                    memory.write(area, range(tag, tag + 1))
        memory.next_tag += hi - lo
    elif name == "swapout":
        lo, hi = world.units.range(*args)
        memory.doubt(lo, hi)
        if made.moving:
            memory.doubt(_home(world, call, result, lo), _home(world, call, result, hi - 1) + 1)
    elif name == "collapse_file":
        for page in {
            args[0],
            _home(world, call, result, world.units.page(args[0])) * world.units.page_bytes,
        }:
            effects.collapse_file(world, (page,), 0)
    elif name == "ftruncate" and made.call.result == 0:
        effects.ftruncate(world, args, 0)
    elif name == "fallocate" and made.call.result == 0:
        effects.fallocate(world, args, 0)


def _home(world: World, call: Call, result: Result, page: int) -> int:
    """Where a page was before the call that moves it, by where it is in the middle of that."""
    if call.name != "mremap":
        return page
    address, old_bytes, new_bytes, _, target = call.args
    new = world.units.page(result if isinstance(result, int) else target)
    count = max(world.units.pages(old_bytes), world.units.pages(new_bytes))
    return page - new + world.units.page(address) if new <= page < new + count else page

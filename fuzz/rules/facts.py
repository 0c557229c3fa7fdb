"""What rules know of an address space before a call: VMAs as intervals, limits, counters."""

from typing import NamedTuple

from engine.base.address import Range
from engine.base.kernel import Kernel
from engine.base.limits import Limits
from engine.state.backing import Backing
from engine.state.space import AddressSpace
from engine.state.vma import AnonVma, UffdContext


class Area(NamedTuple):
    """A VMA as it was: bytes, and its page offset."""

    start: int
    end: int
    flags: int
    pgoff: int
    backing: Backing
    anon_vma: AnonVma | None
    uffd: UffdContext | None


class Facts(NamedTuple):
    """A space before a call.

    `limits` as they are, None if there are none but on the number of VMAs, `map_limit`; `in_use`
    how many bytes count against those of the address space, of locked and of accountable memory;
    `failing` the failures to come, by kind, see `Failures.left`; `pool` the huge pages that nobody
    has or was promised.
    """

    kernel: Kernel
    arena: Range
    areas: list[Area]
    map_limit: int
    limits: Limits | None
    in_use: tuple[int, int, int]
    failing: dict[str, tuple[int, ...]]
    pool: int

    @classmethod
    def of(cls, space: AddressSpace) -> "Facts":
        """The facts of a space."""
        limits, shift = space.limits, space.geometry.page_shift
        bounds = (limits.address_space, limits.locked, limits.commit, limits.request)
        return cls(
            space.kernel,
            space.arena,
            [
                Area(v.start, v.end, v.flags, v.pgoff, v.backing, v.anon_vma, v.uffd)
                for v in space.vmas
            ],
            limits.map_count,
            None if bounds == (None, None, None, None) else limits,
            (space.total_vm << shift, space.locked_vm << shift, space.committed << shift),
            space.failures.left() if space.failures.armed else {},
            space.pool.free - space.pool.reserved,
        )

    @property
    def scarce(self) -> bool:
        """May memory run out by itself?"""
        return self.limits is not None or bool(self.failing)

    def at(self, addr: int) -> Area | None:
        """What is mapped at an address."""
        for area in self.areas:
            if area.start <= addr < area.end:
                return area
        return None

    def inside(self, start: int, end: int) -> list[Area]:
        """What is mapped in [start, end)."""
        if start >= end:
            return []
        return [area for area in self.areas if area.start < end and start < area.end]

    def held(self, where: Range, flag: int = 0) -> int:
        """How many bytes of a range are mapped, with a flag if one is given."""
        return sum(
            min(area.end, where.end) - max(area.start, where.start)
            for area in self.inside(where.start, where.end)
            if not flag or area.flags & flag
        )

    def others_at(self, addr: int) -> bool:
        """Is that outside the arena?  What is left of user space is mapped by others."""
        user_space = range(self.kernel.geometry.min_addr, self.kernel.geometry.user_top)
        return addr in user_space and not self.arena.start <= addr < self.arena.end

    def full(self, more: int) -> bool:
        """Is there no room for `more` VMAs under vm.max_map_count (6.6, measured)?"""
        return len(self.areas) + more > self.map_limit

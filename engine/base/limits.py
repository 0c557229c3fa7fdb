"""Limits of a process and of the system."""

from dataclasses import dataclass

CPUS = 4  # beside the one that the program runs on
MAX_MAP_COUNT = 65530  # vm.max_map_count
KINDS = ("map_count", "as", "memlock", "commit", "request")


@dataclass(slots=True)
class Limits:
    """How much there may be, in bytes; None: as much as is asked for.

    `map_count` is how many VMAs a process may have.
    `address_space` of all mappings (RLIMIT_AS), `locked` of locked ones (RLIMIT_MEMLOCK of a
    process without CAP_IPC_LOCK), `commit` of accountable ones (vm.overcommit_memory 2, without
    the reserves for root and the user).  `request` is the largest single request for accountable
    memory (vm.overcommit_memory 0: RAM and swap; none is refused under 1).
    """

    map_count: int = MAX_MAP_COUNT
    address_space: int | None = None
    locked: int | None = None
    commit: int | None = None
    request: int | None = None

    def set(self, kind: str, value: int) -> None:
        """Limit what `kind` counts (one of KINDS)."""
        match kind:
            case "map_count":
                self.map_count = value
            case "as":
                self.address_space = value
            case "memlock":
                self.locked = value
            case "commit":
                self.commit = value
            case "request":
                self.request = value
            case _:
                raise AssertionError(kind)

    @property
    def unbounded(self) -> bool:
        """True if only the number of VMAs is limited."""
        bounds = (self.address_space, self.locked, self.commit, self.request)
        return bounds == (None, None, None, None)

    def largest_stack(self) -> float:
        """Bytes that the stack of a new program may have: it is accountable, and all there is."""
        limits = (self.address_space, self.commit, self.request)
        return min((limit for limit in limits if limit is not None), default=float("inf"))

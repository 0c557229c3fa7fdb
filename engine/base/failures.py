"""Failures on demand: what makes the n-th attempt to get something fail.

An attempt is counted where the kernel could be refused: a page-table page that a move needs, a VMA
or a chain of anon_vmas, a commit charge, a place under vm.max_map_count, the consent of the driver
behind a mapping.  Faults are left out: a program whose fault finds no memory just faults again.
"""

PAGETABLE, VMA, COMMIT, MAPS, HOOK = KINDS = ("pagetable", "vma", "commit", "maps", "hook")


class VmaRefused(Exception):
    """A VMA could not be made; `error` is the name of the errno.  Nothing has changed."""

    def __init__(self, error: str = "ENOMEM") -> None:
        super().__init__(error)
        self.error = error


class Failures:
    """The failures that are still to come, by kind.  `armed` is true if there are any.

    They may be `lasting`, as a machine is short of memory: what fails does so at every later
    attempt, until `end`.  `reached` says that something else was asked for meanwhile: whether a
    machine has that depends on what it has set aside.
    """

    __slots__ = ("_left", "armed", "lasting", "reached", "short")

    def __init__(self) -> None:
        self.armed = self.lasting = self.short = self.reached = False
        self._left: dict[str, list[int]] = {}

    def arm(self, kind: str, nth: int) -> None:
        """Let the `nth` attempt of `kind` from here fail; 1 is the next one."""
        assert kind in KINDS and nth > 0
        self._left.setdefault(kind, []).append(nth)
        self.armed = True

    def left(self) -> dict[str, tuple[int, ...]]:
        """The failures still to come: which of the next attempts fail, by kind, ascending."""
        return {kind: tuple(sorted(left)) for kind, left in self._left.items()}

    def fails(self, kind: str) -> bool:
        """Count an attempt.  Returns: True if it fails."""
        if not self.armed:
            return False
        if kind not in self._left:
            self.reached |= self.short
            return False
        left = [nth - 1 for nth in self._left.pop(kind)]
        failed = 0 in left
        if later := [nth for nth in left if nth]:
            self._left[kind] = later
        if failed and self.lasting:
            self._left[kind], self.short = [1], True
        self.armed = bool(self._left)
        return failed

    def end(self) -> None:
        """What is to come does not any more: the call for which memory was short is over."""
        self._left.clear()
        self.armed = self.short = False

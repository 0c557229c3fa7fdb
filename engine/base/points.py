"""Checkpoints of a page-table move, announced to whoever watches.

The move code calls the space's observer, if there is one, with one of these points, the move and
the extent in bytes.  Rules that compare a state before with a state after hook in here, and so does
the fuzzer's state feedback.  The letters are the checkpoints of the specification, section 9.
"""

from typing import Any, Protocol

ENTER = "enter"  # before the first iteration, after realignment was decided
REALIGNED = "realigned"  # the starts were lowered
ITERATION = "iteration"  # C2
SKIPPED = "skipped"  # the source entry is none
ALLOCATED = "allocated"  # a destination table was allocated
ALLOC_FAILED = "alloc-failed"
PTES_MOVED = "ptes-moved"  # C3: the PTE mover is about to drop its locks
PMD_MOVED = "pmd-moved"  # C3: the PMD mover is about to drop its locks
PUD_MOVED = "pud-moved"  # C3: the PUD mover is about to drop its locks
HUGE_MOVED = "huge-moved"  # C3: the huge-PMD mover is about to drop its locks
HUGE_SPLIT = "huge-split"
PMD_OCCUPIED = "pmd-occupied"  # refused: the destination entry is not none
PUD_OCCUPIED = "pud-occupied"
LEAVE = "leave"  # C4


class Observer(Protocol):
    """Anything that can be called with a checkpoint."""

    def __call__(self, point: str, move: Any, extent: int) -> None:
        """Take note of a checkpoint.

        Arguments: `move` is the `engine.move.Move` that announces it, which is not named here, as
        it has a space, and a space its observer; `extent` in bytes.
        """

"""What a picture is drawn on: how wide it is, and where the axis of a ribbon begins and ends."""

from typing import NamedTuple

PAD = 14.0  # at each side


class Paper(NamedTuple):
    """A width, in units that whoever shows the picture scales."""

    width: float

    @property
    def left(self) -> float:
        """Where an axis begins; what its rows are stands before that."""
        return 106.0

    @property
    def right(self) -> float:
        """Where an axis may end."""
        return self.width - 24

    @property
    def room(self) -> float:
        """For a line of text."""
        return self.width - 2 * PAD


WIDE = Paper(740.0)
NARROW = Paper(500.0)  # one of two columns

"""A clock for tests."""


class Clock:
    """Seconds that pass only when told: it is `now`, at the beginning what is given."""

    def __init__(self, now: float = 100.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

"""What a fuzzing process says, for benchmarks that start one themselves."""

from collections.abc import Iterator
from typing import Any

from fuzz.campaign.child import Child

_POLL_SECONDS = 0.05


def events_of(child: Child) -> Iterator[dict[str, Any]]:
    """Events until the child ends; the child ends with the loop that reads them."""
    try:
        while child.talking:
            yield from child.events(_POLL_SECONDS)
    finally:
        child.kill()
        child.close()

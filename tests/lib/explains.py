"""Marks of the model that a test explains, and how a session knows that each test runs its lines.

A test marked with `explains` is what to read about a branch that is marked in the engine
(fuzz/reach/marks.py).  It must run that line: else it fails, or, if it is called with several
parameters, the session does when all tests were run (tests/conftest.py).
"""

import contextlib
from collections.abc import Iterable, Iterator

import pytest

from fuzz.reach.marks import marks
from fuzz.reach.watch import Watch

met: set[tuple[str, str]] = set()  # tests and marks: seen by this process
due: set[tuple[str, str]] = set()  # those that it should see


def explains(*names: str) -> pytest.MarkDecorator:
    """The mark of a test that explains these marks of the model."""
    return pytest.mark.explains(*names)


@contextlib.contextmanager
def watched(item: pytest.Item) -> Iterator[list[str]]:
    """While a test runs, see which of its marks it reaches.

    Yields: what speaks against it, in the end.
    """
    objections: list[str] = []
    names = {name for mark in item.iter_markers("explains") for name in mark.args}
    if not names:
        yield objections
        return
    places = {(mark.path, mark.line): mark.name for mark in marks() if mark.name in names}
    objections += [f"{name} is no mark" for name in sorted(names - set(places.values()))]
    with Watch(places) as watch:
        yield objections
    reached = {places[place] for place in watch.ran}
    test = item.nodeid.split("[")[0]
    met.update((test, name) for name in reached)
    due.update((test, name) for name in names)
    if not hasattr(item, "callspec"):  # else another set of parameters may do it
        objections += [f"it does not reach {name}" for name in sorted(names - reached)]


def unmet() -> Iterable[str]:
    """What tests should have reached with some of their parameters, and have not."""
    return [f"{test} does not reach {name}" for test, name in sorted(due - met)]

"""What the tests of the oracle have in common."""

import pytest

from fuzz.oracle.oracle import Oracle
from tests.lib.drawings import Program


@pytest.fixture
def program() -> Program:
    return Program(Oracle())

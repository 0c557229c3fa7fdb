"""A rule that did not hold: what the fuzzer looks for."""

from engine.base.address import Range


class Violation(Exception):
    """The model reached a state the kernel promises never to reach.

    Arguments: `rule` the slug of the rule; `where` the addresses concerned, bytes; `found` and
    `expected` what was there and what the rule asks for.
    """

    def __init__(self, rule: str, where: Range, found: str, expected: str) -> None:
        super().__init__(rule, where, found, expected)
        self.rule = rule
        self.where = where
        self.found = found
        self.expected = expected

    def __str__(self) -> str:
        return f"{self.rule} at {self.where}: found {self.found}, expected {self.expected}"

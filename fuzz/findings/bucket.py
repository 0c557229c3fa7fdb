"""Which violations are the same finding: those that share a `Bucket`."""

import re
from typing import NamedTuple, Self

_NAME = re.compile(
    r"(?P<rule>[a-z0-9]+([-+._][a-z0-9]+)*)--(?P<call>[a-z][a-z0-9_]*)"
    r"(--(?P<defect>[A-Za-z0-9]+([-+][A-Za-z0-9]+)*))?"
)


class Bucket(NamedTuple):
    """What makes two violations the same finding.

    The known defect without which the rule is not broken (`fuzz.defects.attribute`) is a part of
    it, so that an unknown one which breaks the same rule in the same call does not hide behind it.
    """

    rule: str  # slug; where two kernels differ, in what, and which (fuzz.subjects.pair)
    call: str  # name of the call
    defect: str = ""  # id of the known defect, or several with "+" between; empty: unknown

    @property
    def name(self) -> str:
        """What commands and files call it."""
        return "--".join(filter(None, self))

    @classmethod
    def of(cls, rule: str, call: str, defect: str = "") -> Self:
        """The bucket of a broken rule.

        Arguments: `call` the name of the call, or of a directive: what others do in the middle of
        a call (`@at touch`) is called as if it was a call of the program.
        """
        return cls(rule, call.rpartition(" ")[2].removeprefix("@"), defect)

    @classmethod
    def named(cls, name: str) -> Self:
        """The bucket of that name.  Errors raised: ValueError if it is none."""
        match = _NAME.fullmatch(name)
        if match is None:
            raise ValueError(f"{name!r} is not the name of a finding: RULE--CALL[--DEFECT]")
        return cls(match["rule"], match["call"], match["defect"] or "")

"""What findings are called."""

import os
from pathlib import Path

import pytest

from fuzz.calls.registry import CALLS, call
from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import CaseStore

STACK = Bucket("dest-entry-none", "execve_stack")
MOVE = Bucket("page-count", "mremap")
LONG = Case((call("touch", 0, 0x5000), call("peek", 0, 0x5000)), kernel="linux-6.1")
SHORT = Case((call("touch", 0, 0x1000),), kernel="linux-6.12")


def test_bucket_names() -> None:
    assert STACK.name == "dest-entry-none--execve_stack"
    assert Bucket.named(STACK.name) == STACK
    known = STACK._replace(defect="B-01")
    assert known.name == "dest-entry-none--execve_stack--B-01"
    assert Bucket.named(known.name) == known


@pytest.mark.parametrize(
    "name",
    ["", "rule", "--call", "rule--", "../rule--call", "rule--call/..", "Rule--call", "a--b--"],
)
def test_impossible_buckets(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="RULE--CALL"):
        Bucket.named(name)
    rule, _, last = name.partition("--")
    with pytest.raises(ValueError, match="RULE--CALL"):
        CaseStore(tmp_path).save(Bucket(rule, last), SHORT)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", CALLS)
def test_whatever_breaks_a_rule_has_a_name_that_can_be_read(call: str) -> None:
    bucket = Bucket.of("committed", call, "B-37")
    assert Bucket.named(bucket.name) == bucket
    assert bucket.call in call

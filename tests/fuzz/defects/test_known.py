"""Known defects: which violation of a run is its finding, and what excuses it."""

from dataclasses import replace
from itertools import product

import pytest

from engine.base.address import Range
from engine.base.kernel import Kernel, kernel_named
from engine.base.uapi import MREMAP_DONTUNMAP, MREMAP_FIXED, MREMAP_MAYMOVE
from engine.base.violation import Violation
from fuzz.calls.registry import call
from fuzz.case import Call, Case
from fuzz.defects.known import DEFECTS, KNOWN, Defect, known_defect
from fuzz.execute import Found
from fuzz.findings.bucket import Bucket
from fuzz.rules.index import BY_SLUG
from fuzz.showing import Showing

NOW = kernel_named("linux-6.18")
DONTUNMAP = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP
MOVE = call("mremap", 0, 0x2000, 0x2000, DONTUNMAP, 0x4000)
SHRINK = call("mremap", 0, 0x2000, 0x1000, MREMAP_FIXED, 0x4000)
PLAIN = call("mremap", 0, 0x2000, 0x3000, 0)


def bucket_of(*broken: tuple[Call, str], kernel: Kernel = NOW) -> tuple[int, Bucket] | None:
    """The finding of a run of calls that broke these rules."""
    case = Case(tuple(made for made, _ in broken))
    violations = tuple(
        Found(index, Violation(rule, Range(0, 1), "this", "that"))
        for index, (_, rule) in enumerate(broken)
    )
    found = Showing(case, kernel, (), violations).found
    return found and (found.call, found.bucket)


def test_nothing_broken_is_no_finding() -> None:
    assert bucket_of() is None


def test_the_kernel_and_the_form_of_the_call_decide_what_is_known() -> None:
    pgoff = "unfaulted-pgoff"
    assert bucket_of((MOVE, pgoff)) == (0, Bucket(pgoff, "mremap", "B-32"))
    assert bucket_of((PLAIN, pgoff)) == (0, Bucket(pgoff, "mremap"))
    assert bucket_of((MOVE, "committed")) == (0, Bucket("committed", "mremap"))
    assert bucket_of((SHRINK, "committed")) == (0, Bucket("committed", "mremap", "shrink-leak"))
    fixed = kernel_named("linux-6.12")
    assert bucket_of((SHRINK, "committed"), kernel=fixed) == (0, Bucket("committed", "mremap"))


@pytest.mark.parametrize(
    ("defect", "rule", "having", "fixed"),
    [
        ("B-31", "anon-vma-linked", "linux-5.12", "linux-5.13"),
        ("B-33", "dontunmap-source", "linux-6.17.5", "linux-6.17.6"),
        ("B-33", "committed", "linux-6.15", "linux-6.14"),
        ("B-39", "error-order", "linux-5.10", "linux-5.11"),
        ("B-49", "entry-bits-kept", "linux-6.17.8", "linux-6.17.9"),
    ],
)
def test_a_defect_is_known_of_the_releases_that_have_it(
    defect: str, rule: str, having: str, fixed: str
) -> None:
    assert bucket_of((MOVE, rule), kernel=kernel_named(having)) == (
        0,
        Bucket(rule, "mremap", defect),
    )
    assert bucket_of((MOVE, rule), kernel=kernel_named(fixed)) == (0, Bucket(rule, "mremap"))


def test_an_unknown_defect_is_seen_behind_a_known_one() -> None:
    found = bucket_of((SHRINK, "committed"), (PLAIN, "rss-count"), (PLAIN, "total-vm"))
    assert found == (1, Bucket("rss-count", "mremap"))


def test_what_a_known_defect_leaves_behind_is_not_unknown() -> None:
    behind = call("touch", 0, 0x1000)
    found = bucket_of((SHRINK, "committed"), (behind, "committed"), (PLAIN, "committed"))
    assert found == (0, Bucket("committed", "mremap", "shrink-leak"))
    assert bucket_of((behind, "committed"), (SHRINK, "committed")) == (
        0,
        Bucket("committed", "touch"),
    )


def test_a_known_defect_excuses_the_rules_that_it_spoils_and_no_others() -> None:
    left, beyond = (MOVE, "moved-unmapped"), (PLAIN, "limits-hold")
    assert bucket_of(left, beyond) == (0, Bucket("moved-unmapped", "mremap", "not-cut-off"))
    twice = (MOVE, "locked-vm")
    assert bucket_of(twice, (PLAIN, "lock-limit-holds")) == (0, Bucket(twice[1], "mremap", "B-34"))
    assert bucket_of(twice, beyond) == (1, Bucket("limits-hold", "mremap"))
    assert bucket_of(left, (PLAIN, "total-vm")) == (1, Bucket("total-vm", "mremap"))
    assert bucket_of(beyond, left) == (0, Bucket("limits-hold", "mremap"))


def test_behind_a_defect_that_wrecks_the_state_nothing_is_judged() -> None:
    kernel = kernel_named("linux-6.7", "i386")
    wrecked = (MOVE, "move-result"), (MOVE, "others-untouched"), (MOVE, "rss-count")
    found = bucket_of(*wrecked, kernel=kernel)
    assert found == (0, Bucket("move-result", "mremap", "B-09"))
    assert bucket_of((MOVE, "rss-count"), *wrecked, kernel=kernel) == (
        0,
        Bucket("rss-count", "mremap"),
    )


def test_wrapping_is_judged_in_the_registers_of_the_machine() -> None:
    """B-69 needs a sum that wraps: bits that a narrow machine has not must not make one."""
    narrow = kernel_named("linux-6.18", "i386")
    high = call("mremap", 0x1000, 1 << 40, 0x1000, 3, 0x4000)
    assert known_defect("error-traceless", high, narrow) is None
    wraps = call("mremap", 0x1000, 0xFFFFF000, 0x1000, 3, 0x4000)
    known = known_defect("error-traceless", wraps, narrow)
    assert known is not None and known.id == "B-69"


def test_one_rule_may_be_broken_by_several_defects() -> None:
    """The copy is counted as locked, or the source loses more of its lock than has moved."""
    sound = replace(NOW, dontunmap_counts_locked=False, dontunmap_splits_locked=True)
    assert known_defect("locked-vm", MOVE, sound) is None
    counted = known_defect("locked-vm", MOVE, replace(sound, dontunmap_counts_locked=True))
    assert counted is DEFECTS["B-34"]
    unlocked = known_defect("locked-vm", MOVE, replace(sound, dontunmap_splits_locked=False))
    assert unlocked is DEFECTS["dontunmap-unlocks"]


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.id)
def test_a_defect_is_put_back_by_what_a_kernel_has_otherwise(known: Defect) -> None:
    settings = dict(known.bad[0])
    correct = replace(NOW, **{switch: not bad for switch, bad in settings.items()})
    assert known.put_back(correct) == settings
    assert known.put_back(replace(correct, **settings)) == {}


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.id)
def test_every_known_defect_names_a_finding(known: object) -> None:
    entry = next(entry for entry in KNOWN if entry is known)
    assert set(entry.rules) | set(entry.spoils) <= set(BY_SLUG)
    for rule, name in product(entry.rules, entry.calls):
        bucket = Bucket(rule, name, entry.id)
        assert Bucket.named(bucket.name) == bucket
    assert DEFECTS[entry.id] is entry

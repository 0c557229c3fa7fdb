"""Known defects: which kernels have them, and what is said of them."""

import pytest

from engine.base.kernel import kernel_named, releases, releases_with
from engine.base.release import release
from fuzz.defects.defect import Defect
from fuzz.defects.known import DEFECTS, KNOWN, told
from fuzz.findings.bucket import Bucket
from fuzz.rules.index import BY_SLUG


@pytest.mark.parametrize(
    ("defect", "having", "fixed"),
    [
        ("B-31", "linux-5.12", "linux-5.13"),
        ("B-31", "linux-5.7", "linux-5.6"),  # which had no DONTUNMAP
        ("B-33", "linux-6.17.5", "linux-6.17.6"),
        ("B-33", "linux-6.15", "linux-6.14"),
        ("B-39", "linux-5.10", "linux-5.11"),
        ("B-49", "linux-6.17.8", "linux-6.17.9"),
        ("B-49", "linux-6.17.1", "linux-6.16"),
    ],
)
def test_the_releases_that_have_a_defect(defect: str, having: str, fixed: str) -> None:
    assert DEFECTS[defect].present(kernel_named(having))
    assert not DEFECTS[defect].present(kernel_named(fixed))


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.id)
def test_every_known_defect_names_a_finding(known: Defect) -> None:
    assert known.rule in BY_SLUG
    bucket = Bucket(known.rule, "mremap", known.id)
    assert Bucket.named(bucket.name) == bucket
    assert DEFECTS[known.id] is known


def test_several_defects_name_a_finding_together() -> None:
    bucket = Bucket("locked-vm", "mremap", "B-34+dontunmap-unlocks")
    assert Bucket.named(bucket.name) == bucket
    both = told(bucket.defect)
    assert all(f"{id_}, {DEFECTS[id_].title}" in both for id_ in ("B-34", "dontunmap-unlocks"))


@pytest.mark.parametrize("known", KNOWN, ids=lambda known: known.id)
def test_the_releases_that_are_told_are_those_that_have_it(known: Defect) -> None:
    when = releases_with(known.bad)
    having = [kernel for kernel in releases() if known.present(kernel)]
    told = [one for one in releases() if when.holds(release(one.name.removeprefix("linux-")))]
    assert having == told != []

"""A new finding is minimized, kept and told, without a fuzzing process."""

from pathlib import Path

import pytest

from engine.base.kernel import kernel_named
from fuzz.campaign.crashes import Crashes
from fuzz.campaign.investigate import investigate
from fuzz.campaign.session import RunOptions, Session
from fuzz.findings.bucket import Bucket
from fuzz.forms.text import parse
from fuzz.rules.judge import RulesAfter
from fuzz.showing import showing

KERNEL = kernel_named("linux-6.18")
# A move that shrinks leaks commit charge, which is noticed when the whole state is judged.
LEAK = parse(
    "mmap(0x10000, 0x4000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
    "mremap(0x10000, 0x4000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, 0x40000)\n"
    "touch(0x40000, 0x1000)\n"
)


@pytest.mark.parametrize(
    ("rules_after", "bucket"),
    [
        ("moving", Bucket("committed", "mremap", "shrink-leak")),
        ("call", Bucket("committed", "mremap", "shrink-leak")),
        ("last", Bucket("committed", "touch")),
    ],
)
def test_a_finding_is_minimized_as_the_run_has_judged_it(
    rules_after: RulesAfter, bucket: Bucket, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert showing(LEAK, KERNEL, rules_after).bucket == bucket
    with Session(RunOptions(tmp_path, seed=1, rules_after=rules_after)) as session:
        session.met(bucket, LEAK, KERNEL)
        crashes = Crashes(session)
        (seen,) = session.queue
        investigate(session, seen, crashes, lambda: None)
        assert not crashes.any
        assert showing(session.ledger.cases.load(bucket), KERNEL, rules_after).bucket == bucket
    said = capsys.readouterr().out
    assert ("known: shrink-leak" if bucket.defect else f"NEW FINDING {bucket.name}") in said

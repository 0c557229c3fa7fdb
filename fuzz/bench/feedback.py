"""Executions until a finding turns up, with and without feeding state cells to libFuzzer:
`python -m fuzz.bench feedback`."""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from engine.base.kernel import Kernel, kernel_named
from fuzz.bench.events import events_of
from fuzz.calls.registry import MODELLED_CALLS
from fuzz.campaign.child import Child, Setting
from fuzz.campaign.feedback import KINDS
from fuzz.findings.bucket import Bucket
from fuzz.forms import wire


def executions_until(
    bucket: Bucket, kernel: Kernel, *, calls: list[str], fed: Sequence[str], seed: int, limit: int
) -> int | None:
    """Executions until a fuzzer that starts from nothing meets the finding.

    Returns: None if it did not within `limit`.
    """
    with tempfile.TemporaryDirectory() as directory:
        setting = Setting(
            [kernel.name], [kernel.geometry.name], calls, wire.MAX_CALLS, limit, bool(fed), fed
        )
        flags = [f"-seed={seed}", f"-runs={limit}", f"-max_len={wire.WIDTH * wire.MAX_CALLS}"]
        child = Child(setting, flags, Path(directory) / "log")
        for event in events_of(child):
            if event["event"] == "finding" and Bucket(*event["bucket"]) == bucket:
                return int(event["execs"])
    return None


def feedback(options: argparse.Namespace) -> None:
    """Print the executions until a finding, with and without cells that feed libFuzzer."""
    kernel = kernel_named(options.kernel, options.geometry)
    bucket = Bucket.named(options.finding)
    calls = sorted(options.ops.split(",") if options.ops else MODELLED_CALLS)
    print(
        f"{bucket.name} on {kernel.name}, from an empty corpus, at most {options.limit} executions"
    )
    fed = tuple(options.feed.split(","))
    if unknown := set(fed) - set(KINDS):
        sys.exit(f"--feed: unknown {', '.join(sorted(unknown))}; known: {', '.join(KINDS)}")
    print(f"{'fed':12}{'found':>8}{'median':>10}  executions of each seed (-: not found)")
    for kinds in (fed, ()):
        results = [
            executions_until(bucket, kernel, calls=calls, fed=kinds, seed=seed, limit=options.limit)
            for seed in range(1, options.seeds + 1)
        ]
        found = sum(result is not None for result in results)
        # A run that did not find it took more than the limit: the median stays meaningful.
        median = statistics.median(options.limit if r is None else r for r in results)
        bound = ">=" if median >= options.limit else ""
        each = " ".join("-" if result is None else str(result) for result in results)
        print(
            f"{','.join(kinds) or 'nothing':12}{f'{found}/{len(results)}':>8}"
            f"{f'{bound}{median:.0f}':>10}  {each}",
            flush=True,
        )

"""All findings that a working directory holds, with a ledger or without."""

import contextlib
from pathlib import Path
from typing import NamedTuple

from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import CaseStore
from fuzz.findings.ledger import Finding, Ledger


class Kept(NamedTuple):
    """Findings by name, and what is wrong with the files that are no cases.

    A case that somebody else has put there is called as its file is.
    """

    findings: dict[str, Finding]
    errors: list[str]


def kept(workdir: Path, ledger: Ledger | None) -> Kept:
    """What a working directory holds; `ledger` is its own, None: without one.

    Errors raised: LedgerError.
    """
    loaded = CaseStore(workdir).load_all()
    found = {one.bucket.name: one for one in ledger.list(loaded)} if ledger else {}
    for path, case in loaded.cases.items():
        if path.stem not in found:
            found[path.stem] = Finding(_bucket(path.stem), case, {}, None, None)
    return Kept(found, [str(error) for error in loaded.errors])


def _bucket(name: str) -> Bucket:
    """The bucket of that name, which may be none of ours."""
    with contextlib.suppress(ValueError):
        return Bucket.named(name)
    return Bucket(name, "")

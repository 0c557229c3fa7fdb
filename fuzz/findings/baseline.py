"""A baseline: the findings that a run may meet, one name a line, each with its reason.

    # what `pmdfuzz run --baseline` lets be
    committed--mremap
    leaf-has-vma--mremap  # reported, see the list of May

Blank lines and lines that begin with `#` are for readers; written anew, it is sorted, and keeps the
lines at its head and the reasons.  A run adds to it, and takes out nothing but what is fixed.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from fuzz.findings.bucket import Bucket
from fuzz.lib.files import write_atomic

_HEAD = ("# What `pmdfuzz run --baseline` lets be: the name of a finding, and behind # why.",)


class BaselineError(Exception):
    """The file cannot be read: where it is wrong, and why."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """The findings, each with its reason (empty: none), and the comment at the head of the file."""

    reasons: dict[Bucket, str] = field(default_factory=dict)
    head: tuple[str, ...] = _HEAD

    @classmethod
    def load(cls, path: Path) -> Self:
        """That of a file.  Errors raised: BaselineError."""
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not a text in UTF-8"
            raise BaselineError(f"{path}: cannot be read: {why}") from None
        reasons: dict[Bucket, str] = {}
        head: list[str] = []
        for number, line in enumerate(lines, 1):
            name, _, reason = (part.strip() for part in line.partition("#"))
            if not name:
                if line.strip() and not reasons:
                    head.append(line.strip())
                continue
            try:
                bucket = Bucket.named(name)
            except ValueError as error:
                raise BaselineError(f"{path}:{number}: {error}") from None
            if bucket in reasons:
                raise BaselineError(f"{path}:{number}: {name} is there twice")
            reasons[bucket] = reason
        return cls(reasons, tuple(head) or _HEAD)

    def updated(
        self, more: Iterable[Bucket], reason: str, without: Collection[Bucket] = ()
    ) -> "Baseline":
        """The baseline with more findings, which get that reason, and without some of its own."""
        reasons = {**dict.fromkeys(more, reason), **self.reasons}
        kept = {bucket: why for bucket, why in reasons.items() if bucket not in without}
        return replace(self, reasons=kept)

    def save(self, path: Path) -> None:
        """Write it.  Errors raised: WriteError."""
        lines = [
            f"{bucket.name}{f'  # {why}' if why else ''}"
            for bucket, why in sorted(self.reasons.items())
        ]
        write_atomic(path, "\n".join([*self.head, *lines]) + "\n")

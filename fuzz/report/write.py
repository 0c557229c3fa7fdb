"""A report as files: a folder with an index and a page for each finding, or one file.

Whoever reads it meanwhile never sees half of it: a file takes its name once it is written, and the
index comes after all pages that it leads to, before those go that it does not lead to any more.  A
page that would say the same is left as it is.
"""

from pathlib import Path

from fuzz.lib.files import WriteError, write_atomic
from fuzz.report.directory import Directory
from fuzz.report.pages import MARK, Pages
from fuzz.report.studies import Studies

REPORT = "report"  # folder in the working directory, if no other is named
INDEX, FINDINGS = "index.html", "findings"
ENDINGS = (".html", ".htm")  # of a report in one file
_HEAD_BYTES = 1024  # at the beginning of a page, in which its mark stands


class NotOurs(WriteError):
    """Something else lies where the report is to be."""

    def __init__(
        self, path: Path, reason: str = "that is no report of ours; name another place, or move it"
    ) -> None:
        super().__init__(path, reason)


def is_file(out: Path) -> bool:
    """Is a report of that name one file?"""
    return out.suffix.lower() in ENDINGS


def is_ours(page: bytes) -> bool:
    """Has a page been made by this project?  Its mark stands in its head."""
    return MARK.encode() in page[:_HEAD_BYTES]


def refuse_others(out: Path) -> None:
    """Errors raised: NotOurs if there is something that a report would replace."""
    index = out if is_file(out) else out / INDEX
    if out.is_dir() and is_file(out):
        raise NotOurs(out)
    if out.exists() and not out.is_dir() and not is_file(out):
        raise NotOurs(out)
    if index.exists() and MARK not in _head(index):
        raise NotOurs(index)


def write(directory: Directory, studies: Studies, out: Path) -> Path:
    """Write the report of a working directory, whose cases have been studied.

    Returns: the file to open.
    Errors raised: WriteError, OSError.
    """
    refuse_others(out)
    if is_file(out):
        write_atomic(out, Pages(directory, studies, single=True).index())
        return out
    pages = Pages(directory, studies)
    folder = out / FINDINGS
    folder.mkdir(parents=True, exist_ok=True)
    for slug, entry in pages.by_slug.items():
        path = folder / f"{slug}.html"
        if pages.mark(entry) not in _head(path):
            write_atomic(path, pages.finding(entry), synced=False)
    write_atomic(out / INDEX, pages.index())
    for path in folder.glob("*.html"):
        if path.stem not in pages.by_slug and MARK in _head(path):
            path.unlink(missing_ok=True)
    return out / INDEX


def _head(path: Path) -> str:
    """How a file begins; empty if there is none."""
    try:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES).decode(errors="replace")
    except FileNotFoundError:
        return ""

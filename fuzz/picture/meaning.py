"""What it means that a rule is broken, for who runs programs on that kernel."""

from engine.state import terms
from fuzz.picture.lost import Lost
from fuzz.picture.moments import Film
from fuzz.rules.rule import CONTRACT, COURSE, CRASH, HARM

# How bad it is, in some words beside the name of the severity.
WEIGHT = {
    HARM: "memory, rights or resources are wrong",
    CONTRACT: "not as promised, but what is in memory is right",
    COURSE: "not done as it should be, but the outcome is right",
    CRASH: "the call does not return",
}

_WARNS = (
    "the kernel warns (WARN_ON_ONCE; with panic_on_warn it panics) and takes the entries one by "
    "one instead: nothing is lost by that"
)
# What it means that these are broken; of others it is said how bad that is in general.
MEANS = {
    "dest-entry-none": _WARNS,
    "rollback-dest-none": _WARNS,
    "table-linked-once": "two places share a table: what is done at one happens at the other",
    "table-has-vma": "a page table is never freed",
    "leaf-has-vma": "pages lie where no mapping is: nobody frees them",
    "pages-kept": "a page is lost, or mapped twice",
    "entries-at-new": "the program does not find at the new place what it had at the old one",
    "others-untouched": "memory that nobody asked to move is no longer where the program has it",
    "move-result": "the caller believes that more, or less, has moved than has",
    "rollback-restores": "the call fails, but memory is not what it was before",
    "rollback-complete": "the call fails, and what had moved by then is lost",
    "tlb-unlock": "until the flush another CPU reaches the page by its old address: it may be "
    "freed, and given to somebody else, while that CPU still writes to it",
    "tlb-after": "another CPU still reaches memory that the program no longer has there",
    "table-move-locked": "who walks the reverse map changes entries of another address, and "
    "flushes the wrong one",
    "rmap-order": "who walks the reverse map may miss a page: an entry to it is left behind",
    "table-not-leaf": "data are taken for a page table, or a table for data",
    "huge-deposit": "a huge page cannot be split later: its table is missing",
    "soft-dirty": "who saves memory by its changes misses some",
    "uffd-wp-stray": "pages stay write-protected for a monitor that no longer watches them",
    "entry-bits-kept": "a page has other rights, or is another one, than before it moved",
    "writable-fits": "a program may write to memory that it must not write to",
    "committed": "the count of promised memory is wrong for good",
    "locked-vm": "the count of locked memory is wrong, and so is what may still be locked",
    "oracle-contents": "the program does not find in memory what it wrote there",
    "moved-unmapped": "what has moved away stays mapped at its old place",
}


def consequence(film: Film, lost: Lost) -> str:
    """One line; "" if no rule is broken."""
    rule = film.rule
    if rule is None:
        return ""
    last = len(film.moments) - 1
    if missing := lost.missing(last):
        first = missing[0]
        pages = sum(run.where.length for run in missing) >> film.kernel.geometry.page_shift
        what = f"page {first.tag}" if pages == 1 else terms.count(pages, "page")
        where = terms.address(film.kernel.geometry, first.where.start)
        at = f"at {where}" if pages == 1 else f"from {where} on"
        failed = isinstance(film.result, str)
        if any(lost.elsewhere(last, run) for run in missing):
            return f"the program does not find {what}, which it wrote {at}, there any more"
        rest = "; the call has failed, so nothing should have changed" if failed else ""
        return f"what the program wrote {at} ({what}) is lost{rest}"
    return MEANS.get(rule.slug, rule.severity.meaning)

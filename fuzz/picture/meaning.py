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
    "the kernel warns (WARN_ON_ONCE) and takes the entries one by one instead: nothing is lost, "
    "but with panic_on_warn the machine stops"
)
# What it means that these are broken, all that do harm among them; of others it is said how bad
# that is in general.
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
    "table-move-locked": "who walks the reverse map meanwhile flushes the old address, not the one "
    "where the entry is now",
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
    "migration-left": "whoever touches a page that migration has left behind waits for ever",
    "notifier-range": "a device or a guest goes on using the old pages: it was not told in time",
    "failed-alloc-harmless": "somebody else pays for it that there was no memory",
    "rollback-keeps-wp": "the monitor is not told of writes to pages that it protects: it misses "
    "them",
    "vma-order": "who looks an address up finds another mapping, or none",
    "page-index": "who looks a page up by its place in memory or file finds it elsewhere, or never",
    "anon-vma-linked": "who has to find all mappings of a page misses one, or uses freed memory",
    "merge-agrees": "two mappings that differ become one: part of memory has wrong rights or pages",
    "vma-alive": "the kernel goes on with a mapping that is freed",
    "total-vm": "the count of mapped memory is wrong for good, and so is what may still be mapped",
    "table-count": "tables are leaked, or counted that are not there: the kernel warns at exit",
    "rss-count": "the count of used memory is wrong: limits and the OOM killer hit the wrong one",
    "hugetlb-reserve": "huge pages stay promised to nobody, or are promised twice",
    "reservation-kept": "huge pages that were promised are not there later: SIGBUS",
    "fixed-exact": "something else than what was moved lies at the new place",
    "resize-exact": "memory that should stay is gone, or what should go stays",
    "duplicate-keeps-source": "the call takes away what it should only have mapped a second time",
    "multi-gaps": "memory of others, between the mappings that move, is unmapped or moved",
    "mapping-kept": "a mapping has other flags than before, or shows another part of its file",
    "uffd-kept-elsewhere": "a monitor is not told any more of faults that it waits for",
    "lock-kept": "memory that was locked may be swapped out: secrets reach the disk",
    "flags-set": "memory is not protected as asked, or too much of it is",
    "error-keeps-pages": "the call fails, and pages that it should not have touched are gone",
    "stack-placed": "the new program starts with a stack that is not all there",
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
            now = " reads as zeroes" if lost.zeroes(last, first) else " is not there any more"
            stray = any(lost.stray(last, ribbon) for ribbon in lost.scene.ribbons)
            rest = "; where it is now no VMA is" if stray and pages == 1 else ""
            return f"what the program wrote {at} ({what}){now}{rest}"
        rest = "; the call has failed, so nothing should have changed" if failed else ""
        return f"what the program wrote {at} ({what}) is lost{rest}"
    return MEANS.get(rule.slug, rule.severity.meaning)

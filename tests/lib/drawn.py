"""Address spaces from drawings, for tests: one character a page, as `fuzz.tell.draw.strip` draws.

    space = scene("AAAA aa.. ..bb")

A run of one letter is a VMA, upper case a page with an entry; dots are holes, blanks only for the
eye (a slot of the tiny geometry is 4 pages, a PUD entry 16).  Neighbours with different letters are
different VMAs although they look alike; every VMA that has a page has an anon_vma of its own.
"""

from collections.abc import Iterable
from itertools import groupby

from engine.base.kernel import Kernel, kernel_named
from engine.pages.fault import touch
from engine.state.space import AddressSpace, Listener
from engine.state.vma import VM_ACCOUNT, VM_READ, VM_WRITE, Vma
from fuzz.tell.draw import strip
from tests.lib.constants import PAGE

SLOT = 4 * PAGE  # of the tiny geometry
PUD_ENTRY = 16 * PAGE
FLAGS = VM_READ | VM_WRITE | VM_ACCOUNT  # as mmap gives them to private writable memory


def tiny(kernel: str | Kernel = "linux-6.12") -> Kernel:
    """A kernel on the tiny geometry."""
    named = kernel_named(kernel) if isinstance(kernel, str) else kernel
    return named.on(kernel_named("linux-6.12", "tiny").geometry)


def scene(
    picture: str, kernel: str | Kernel = "linux-6.12", listeners: Iterable[Listener] = ()
) -> AddressSpace:
    """The space that is drawn, from page 0 of the tiny geometry on; tags count up from 1."""
    space = AddressSpace(tiny(kernel), listeners)
    page = 0
    for letter, run in groupby(picture.replace(" ", ""), key=str.lower):
        pages = "".join(run)
        start, end = page * PAGE, (page + len(pages)) * PAGE
        page += len(pages)
        if letter == ".":
            continue
        vma = Vma(start, end, FLAGS, start // PAGE)
        space.vmas.insert(vma)
        space.account(vma.flags, end - start)
        if not pages.islower():
            vma.link_to(space.new_anon_vma())
        for offset, drawn in enumerate(pages):
            if drawn.isupper():
                assert not touch(space, start + offset * PAGE, start + (offset + 1) * PAGE)
    return space


def shown(space: AddressSpace, slots: int) -> str:
    """The first `slots` slots, as `scene` takes them."""
    pages = strip(space, 0, 4 * slots)
    return " ".join(pages[i : i + 4] for i in range(0, len(pages), 4))


def tags(space: AddressSpace) -> dict[int, int]:
    """Page number in the arena -> content."""
    return dict(sorted(space.contents().items()))

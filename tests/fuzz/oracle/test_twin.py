"""The oracle against a twin that knows every page, and nothing but pages."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.case import Call, Faults, Result
from fuzz.oracle.oracle import Oracle
from tests.lib.constants import PAGE
from tests.lib.drawings import (
    DONTUNMAP,
    FIXED,
    MAYMOVE,
    PRIVATE,
    READ,
    RW,
    SHARED,
    TO,
    WRITE,
    advise,
    mmap,
    mremap,
    on,
    stack,
)

PAGES = 12


@dataclass
class Cell:
    """One mapped page: private with its own tag, or a page of an object."""

    prot: int
    tag: int = 0
    object: dict[int, int] | None = None
    offset: int = 0
    size: int = 0

    def read(self) -> int:
        return self.tag if self.object is None else self.object.get(self.offset, 0)


class Twin:
    """A made-up kernel on PAGES pages, which decides results and failures by a given number."""

    def __init__(self) -> None:
        self.cells: list[Cell | None] = [None] * PAGES
        self.tag = 1

    def contents(self) -> dict[int, int]:
        return {page: cell.read() for page, cell in enumerate(self.cells) if cell and cell.read()}

    def mapped(self) -> list[tuple[int, int]]:
        return [(page * PAGE, page * PAGE + PAGE) for page, cell in enumerate(self.cells) if cell]

    def clear(self, pages: range) -> None:
        for page in pages:
            self.cells[page] = None

    def run(
        self, name: str, a: int, n: int, m: int, b: int, kind: int, fate: int
    ) -> tuple[Call, Result]:
        """Carry out one operation.

        `a` is a page, `n` and `m` are lengths, `b` is a second page, `kind` selects a variant, and
        `fate` how far a call that fails gets; all ranges lie inside the arena.
        """
        pages = range(a, a + n)
        cells = self.cells
        if name == "mmap":
            flags = (PRIVATE, SHARED)[kind % 2]
            prot = (RW, READ, RW, 0)[kind // 2 % 4]
            if fate % 5 == 0:
                return mmap(a, n, prot=prot, flags=flags | FIXED), "-EINVAL"
            held: dict[int, int] | None = {} if kind % 2 else None
            for page in pages:
                cells[page] = Cell(prot, 0, held, page - a, n)
            return mmap(a, n, prot=prot, flags=flags | FIXED), a * PAGE
        if name == "munmap":
            self.clear(pages)
            return on("munmap", a, n), 0
        if name == "mprotect":
            prot = (RW, READ, 0)[kind % 3]
            for page in pages:
                if (cell := cells[page]) is None:
                    return on("mprotect", a, n, prot), "-ENOMEM"
                cell.prot = prot
            return on("mprotect", a, n, prot), 0
        if name == "madvise":
            return self.madvise(pages, ("DONTNEED", "FREE", "REMOVE")[kind % 3])
        if name == "touch":
            return self.touch(pages)
        if name == "execve_stack":
            shift = b % (a + 1)
            op = stack("execve_stack", a, a + n, shift)
            if fate % 3 == 0:
                return op, "-E2BIG"
            self.clear(range(PAGES))
            for page in pages:
                cells[page - shift] = Cell(RW, self.tag)
                self.tag += 1
            if fate % 3 == 1:
                self.clear(range(PAGES))
                return op, "-ENOMEM"
            return op, 0
        if name == "relocate":
            return self.relocate(pages, b % (a + 1), fate)
        return self.mremap(a, n, m, b, kind, fate)

    def touch(self, pages: range) -> tuple[Call, Result]:
        segv, bus = [], []
        for page in pages:
            cell = self.cells[page]
            if cell is None or not cell.prot & WRITE:
                segv.append((page, 1))
            elif cell.object is None:
                cell.tag = self.tag
            elif cell.offset < cell.size:
                cell.object[cell.offset] = self.tag
            else:
                bus.append((page, 1))
            self.tag += 1
        faulted = Faults(tuple(segv), tuple(bus))
        return on("touch", pages[0], len(pages)), faulted if segv or bus else 0

    def madvise(self, pages: range, advice: str) -> tuple[Call, Result]:
        op = advise(pages[0], len(pages), advice)
        result: Result = 0
        for page in pages:
            cell = self.cells[page]
            if cell is None:
                result = "-ENOMEM"
            elif advice == "REMOVE":
                if cell.object is None:
                    return op, "-EINVAL"
                cell.object.pop(cell.offset, None)
            elif advice == "DONTNEED":
                cell.tag = 0
        return op, result

    def relocate(self, pages: range, shift: int, fate: int) -> tuple[Call, Result]:
        op = stack("relocate", pages[0], pages[-1] + 1, shift)
        below = range(pages[0] - shift, min(pages[0], pages[-1] + 1 - shift))
        if not all(self.cells[page] for page in pages) or any(self.cells[page] for page in below):
            return op, "-EINVAL"
        moved = [self.cells[page] for page in pages]
        self.clear(pages)
        if fate % 3 == 0:
            return op, "-ENOMEM"
        for page, cell in zip(pages, moved, strict=True):
            self.cells[page - shift] = cell
        return op, 0

    def mremap(self, a: int, n: int, m: int, b: int, kind: int, fate: int) -> tuple[Call, Result]:
        """Equal sizes may span holes; other moves need all they move; `fate` picks failures."""
        cells = self.cells
        source, target = range(a, a + n), range(b, b + m)
        flags = (0, MAYMOVE, TO, TO | DONTUNMAP, MAYMOVE | DONTUNMAP)[kind % 5]
        if flags & DONTUNMAP:
            m, target = n, range(b, b + n)
        op = mremap(a, n, m, flags, b)
        first = cells[a]
        if first is None:
            return op, "-EFAULT"
        if n == 0 and (first.object is None or not flags & MAYMOVE or flags & DONTUNMAP):
            return op, "-EINVAL"
        if m <= n and flags in (0, MAYMOVE):
            self.clear(range(a + m, a + n))
            return op, a * PAGE
        if target.stop > PAGES or (flags & TO == TO and b < a + n and a < target.stop):
            return op, "-EINVAL"
        fixed = flags & TO == TO
        whole = all(cells[page] for page in range(a, a + min(n, m)))
        if n == m and fixed:
            return op, self.move_parts(source, b - a, bool(flags & DONTUNMAP), fate) or b * PAGE
        if not whole:
            return op, "-EFAULT"
        grown = range(a + n, a + m)
        free = a + m <= PAGES and not any(cells[page] for page in grown)
        if free and n and not fixed and not flags & DONTUNMAP:
            self.extend(a, n, a, m)
            return op, a * PAGE
        if flags == 0 or (not fixed and any(cells[page] for page in target)):
            return op, "-ENOMEM"
        if fixed:
            if fate % 4 == 0:
                return op, "-ENOMEM"
            self.clear(target)
            if fate % 4 == 1 or a in target:  # a second mapping over its own source
                return op, "-ENOMEM"
        self.clear(range(a + m, a + n))
        if fixed and fate % 4 == 2:
            return op, "-ENOMEM"
        if n < m:
            self.extend(a, n, b, m)
        for page in range(min(n, m)):
            self.shift_page(a + page, b + page, bool(flags & DONTUNMAP))
        return op, b * PAGE

    def move_parts(self, source: range, shift: int, keep: bool, fate: int) -> str:
        """Move page by page and run by run; each run of mapped pages is a part that may fail."""
        runs: list[list[int]] = []
        for page in source:
            if self.cells[page]:
                if runs and runs[-1][-1] == page - 1:
                    runs[-1].append(page)
                else:
                    runs.append([page])
        for index, run in enumerate(runs):
            if fate % 8 == 2 * index:
                return "-ENOMEM"
            self.clear(range(run[0] + shift, run[-1] + 1 + shift))
            if fate % 8 == 2 * index + 1:
                return "-ENOMEM"
            for page in run:
                self.shift_page(page, page + shift, keep)
        return ""

    def shift_page(self, page: int, to: int, keep: bool) -> None:
        cell = self.cells[page]
        assert cell is not None
        self.cells[to] = Cell(cell.prot, cell.tag, cell.object, cell.offset, cell.size)
        cell.tag = 0
        if not keep:
            self.cells[page] = None

    def extend(self, a: int, n: int, b: int, m: int) -> None:
        """Map pages n to m of a mapping at `b` as those of the mapping at `a` would continue."""
        last = self.cells[a + max(n, 1) - 1]
        assert last is not None
        step = 1 - (n == 0)
        for page in range(n, m):
            offset = last.offset + step + page - n
            self.cells[b + page] = Cell(last.prot, 0, last.object, offset, last.size)


NAMES = (
    *("mmap", "touch", "mremap") * 3,
    *("munmap", "mprotect", "madvise", "execve_stack", "relocate"),
)


@st.composite
def operations(
    draw: Callable[[st.SearchStrategy[int]], int],
) -> tuple[str, int, int, int, int, int, int]:
    name = NAMES[draw(st.integers(0, len(NAMES) - 1))]
    a = draw(st.integers(0, PAGES - 1))
    n = draw(st.integers(0 if name == "mremap" else 1, PAGES - a))
    m = n if draw(st.booleans()) and n else draw(st.integers(1, PAGES))
    b = draw(st.integers(0, PAGES - 1))
    return name, a, n, m, b, draw(st.integers(0, 7)), draw(st.integers(0, 23))


Operation = tuple[str, int, int, int, int, int, int]


@settings(max_examples=300, deadline=None)
@given(st.lists(operations(), max_size=25))
def test_agrees_with_a_page_by_page_twin(operations: list[Operation]) -> None:
    twin, oracle = Twin(), Oracle()
    for operation in operations:
        op, result = twin.run(*operation)
        assert oracle.apply(op, result, twin.contents(), twin.mapped) == [], (op, result)
        assert oracle.contents == twin.contents()
        covered = [page for start, end in oracle.mapped for page in range(start, end)]
        assert covered == [page for page, cell in enumerate(twin.cells) if cell]
        assert all(left[1] < right[0] for left, right in pairwise(oracle.mapped))


@settings(max_examples=300, deadline=None)
@given(st.lists(operations(), min_size=1, max_size=25), st.data())
def test_notices_one_wrong_page(operations: list[Operation], data: st.DataObject) -> None:
    """Change one page after a call that succeeded: lost, another tag, or appeared."""
    twin, oracle = Twin(), Oracle()
    for operation in operations:
        op, result = twin.run(*operation)
        assert oracle.apply(op, result, twin.contents(), twin.mapped) == []
    page = data.draw(st.integers(0, PAGES - 1))
    wrong = data.draw(
        st.sampled_from([0, *range(twin.tag, twin.tag + 3), *twin.contents().values()])
    )
    held = twin.contents()
    if held.get(page, 0) == wrong:
        return
    held[page] = wrong
    if not wrong:
        del held[page]
    (found,) = oracle.apply(on("mlock", 0, 1), "-ENOMEM", held, twin.mapped)
    assert (found.kind, found.start_page, found.found or 0) == ("contents", page, wrong)
    assert oracle.apply(on("mlock", 0, 1), "-ENOMEM", held, twin.mapped) == []

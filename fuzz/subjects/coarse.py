"""A program that stands for a kernel, beside a model: both are seen as coarsely as it can be.

qemu-user, valgrind and gVisor have no page tables to show, and do not say which pages are there:
results, VMAs and contents are compared.  Where they split and merge VMAs otherwise, or never, these
are compared as if all were merged that may be accessed alike.  The addresses that they choose are
their own: a program is run up to the first that is chosen, and all that is compared of what was
placed there is that it was.  That they die of a program is its result.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from engine.base.address import Range, round_up
from engine.base.geometry import Geometry
from engine.base.uapi import MAP_FIXED, MAP_FIXED_NOREPLACE, MREMAP_FIXED, MREMAP_MAYMOVE
from fuzz.case import Call, Case
from fuzz.forms.text import parse
from fuzz.subjects.against import Against, Divergence
from fuzz.subjects.contents import outside
from fuzz.subjects.difference import Difference
from fuzz.subjects.model import Model
from fuzz.subjects.probes import known
from fuzz.subjects.subject import Observation, Subject

PLACED = "OUT"  # the result of a call that has chosen an address, whichever

_MAP = "mmap(0x200000, 0x3000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED)\n"
_SPLIT_AND_MERGED = tuple(
    parse(f"{_MAP}{calls}\n")
    for calls in (
        "mprotect(0x201000, 0x1000, PROT_READ)\nmprotect(0x201000, 0x1000, PROT_READ|PROT_WRITE)",
        "madvise(0x201000, 0x1000, MADV_DONTFORK)",
        "madvise(0x201000, 0x1000, MADV_DONTDUMP)",
    )
)


class CoarselyAgainst(Against):
    """A program that stands for a kernel beside a model; see this file's beginning.

    `has_vmas` says whether VMAs are seen as they are; `unknown` names the calls, flags and advice
    that it does not know: programs that need these are not run.
    """

    def __init__(self, model: Model, subject: Subject, on: str = "host") -> None:
        """Find out what can be compared.  Errors raised: SubjectError."""
        super().__init__(model, subject, on)
        before = subject.able.lacks
        subject.able = known(subject, model)
        self.unknown = [name for name in subject.able.lacks if name not in before]
        seen = zip(subject.run(_SPLIT_AND_MERGED), model.run(_SPLIT_AND_MERGED), strict=True)
        self.has_vmas = all(here.get("vmas") == there["vmas"] for here, there in seen)

    def told(self) -> Iterator[str]:
        """See `Against`."""
        yield f"it is {self.subject.implementation}"
        if self.unknown:
            yield f"it does not know {', '.join(self.unknown)}"
        vmas = "VMAs" if self.has_vmas else "VMAs, merged where they may be accessed alike,"
        yield f"compared are results, {vmas} and contents, up to the first address that is chosen"

    def runnable(self, case: Case) -> Case:
        """See `Against`: up to the first address that is chosen, on the model."""
        case = super().runnable(case)
        return cut(case, self.model.observe(case), self.model.geometry) if case.calls else case

    def seen(self, case: Case, observed: Observation) -> Observation:
        """See `Against`: the fields `ret`, `vmas` and `contents`, or `crash`."""
        if "crash" in observed:
            return observed
        page_bytes = self.model.geometry.page_bytes
        results, vmas = list(observed["ret"]), observed["vmas"]
        contents = observed.get("contents")
        if case.calls and (place := chosen(case.calls[-1], results[-1], page_bytes)):
            results[-1] = PLACED
            vmas = without(vmas, place)
            pages = range(place.start // page_bytes, place.end // page_bytes)
            contents = contents and outside(contents, pages)
        if not self.has_vmas:
            vmas = coalesced(vmas)
        return {"ret": results, "vmas": vmas, "contents": contents}

    def judge(self, case: Case, observed: Observation) -> Divergence | None:
        """See `Against`: classes of results are told apart by these, too."""
        found = super().judge(case, observed)
        if found is None or found.kind.field != "ret":
            return found
        kind, call = found.difference
        sides = (found.observed, found.modelled)
        got, want = (_word(case.calls[call], side["ret"][call]) for side in sides)
        return found._replace(difference=Difference(kind._replace(how=f"{got}, not {want}"), call))


def _word(call: Call, result: Any) -> str:
    """What a call returned, in a word."""
    match result:
        case int() if call.name == "mremap" and result == call.args[0]:
            return "in place"
        case "OUT":
            return "elsewhere"
        case str():
            return result  # an error
        case Mapping():
            return "a fault"
        case _:
            return "done"


def cut(case: Case, observed: Observation, geometry: Geometry) -> Case:
    """The case up to the first call that has chosen an address; all of it if none has.

    One that has found no place is left out, too: there is more of it outside the arena.
    """
    for index, (call, result) in enumerate(zip(case.calls, observed.get("ret", ()), strict=False)):
        if chosen(call, result, geometry.page_bytes) is not None:
            return case.with_calls(case.calls[: index + 1])
        asks = _asks(call)
        if result == "-ENOMEM" and asks is not None and asks.length <= geometry.user_top:
            return case.with_calls(case.calls[:index])
    return case


class _Asks(NamedTuple):
    """A call that leaves it to the kernel where a mapping goes, if it does not go to `hint`."""

    hint: int
    length: int


def _asks(call: Call) -> _Asks | None:
    match call.name, call.args:
        case "mmap", (hint, length, _, flags, *_):
            free = not flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)
        case "mremap", (hint, _, length, flags, *_):
            free = flags & (MREMAP_MAYMOVE | MREMAP_FIXED) == MREMAP_MAYMOVE
        case _:
            return None
    return _Asks(hint, length) if free else None


def chosen(call: Call, result: Any, page_bytes: int) -> Range | None:
    """The place that a call has chosen for a mapping, in the arena; None if it has chosen none.

    An address outside the arena is chosen, too: where that is does not matter.
    """
    asks = _asks(call)
    if asks is None or result == asks.hint:
        return None
    if result == PLACED:
        return Range(0, 0)
    return (
        Range(result, result + round_up(asks.length, page_bytes)) if type(result) is int else None
    )


# --- VMAs and contents ----------------------------------------------------------------------------

_Row = list[Any]  # start, end, protection; of shared memory object and offset, too


def coalesced(vmas: Iterable[_Row]) -> list[_Row]:
    """The VMAs, those one that lie side by side and go on with the same."""
    rows: list[_Row] = []
    for row in vmas:
        if rows and _goes_on(rows[-1], row):
            rows[-1] = [rows[-1][0], *row[1:3], *rows[-1][3:]]
        else:
            rows.append(row)
    return rows


def _goes_on(row: _Row, behind: _Row) -> bool:
    if row[1] != behind[0] or row[2] != behind[2]:
        return False
    of, of_that = row[3:], behind[3:]
    return not of or (of[0] == of_that[0] and of[1] + row[1] - row[0] == of_that[1])


def without(vmas: Iterable[_Row], place: Range) -> list[_Row]:
    """The VMAs outside a range; objects are numbered anew, in order."""
    rows: list[_Row] = []
    numbers: dict[int, int] = {}
    for start, end, protection, *of in vmas:
        for piece in (Range(start, min(end, place.start)), Range(max(start, place.end), end)):
            if piece.start >= piece.end:
                continue
            row = [piece.start, piece.end, protection]
            if of:
                row += [numbers.setdefault(of[0], len(numbers)), of[1] + piece.start - start]
            rows.append(row)
    return rows

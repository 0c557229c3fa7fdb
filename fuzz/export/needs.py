"""What a case needs of a machine: C to set it up or say what is missing; or why none has it."""

import re
from collections.abc import Iterator

from engine.base import failures, limits, uapi
from engine.base.geometry import GEOMETRIES, Geometry
from engine.base.kernel import Kernel, base_of
from fuzz.calls.actors import PREFIX as IN_BETWEEN
from fuzz.calls.directives import FAILURES, LIMITS
from fuzz.calls.operand import FILES, Address, Length, Offset
from fuzz.calls.registry import CALLS
from fuzz.case import Call, Case
from fuzz.export.twins import Twins
from fuzz.forms.text import format_call
from fuzz.subjects.subject import Abilities

_ARENA_OF_32_BITS = 0x20000000
_LOWEST_OF_32_BITS = 0xB0000000  # where a program lies that is linked so (its head says how)
_REACH_OF_32_BITS = 0x90000000  # bytes above the place that the arena has there
_WORD_OF_32_BITS = 0xFFFFFFFF
_HUGE_LENGTH = 1 << 40  # bytes: such a call is refused
_MUCH = 1 << 30  # bytes, of a single request
_THP = "/sys/kernel/mm/transparent_hugepage"
# What no program can have, and why: calls, kinds of failures, limits.
_IMPOSSIBLE = {
    "relocate": "no caller in the kernel moves a stack that is in use",
    "migrate_begin": "no system call stops in the middle of a migration",
    "migrate_end": "no system call stops in the middle of a migration",
    "touch_on": "nobody can read what the TLB of another CPU holds",
    "execve_stack": "how far exec moves a stack is chance, and where it ends the machine's affair",
}
_FAILS_ALONE = "a single attempt fails by fault injection only, or a driver that refuses"
_FAILURES = {name: _FAILS_ALONE for name in failures.KINDS if name != failures.PAGETABLE}
_LIMITS = {
    "commit": "vm.overcommit_memory 2 counts in batches, and is not kept to the page",
    "request": "that is the memory of the machine",
}
_DIRECTIVES = {"@fail": (failures.KINDS, _FAILURES), "@limit": (limits.KINDS, _LIMITS)}
_ABLE = Abilities(
    frozenset(CALLS) - _IMPOSSIBLE.keys(),
    without={"@fail": frozenset(_FAILURES), "@limit": frozenset(_LIMITS)},
)


def why_not(case: Case) -> str:
    """Why no program can do what the case does; "" if one can."""
    geometry = case.geometry or "x86-64"
    if geometry in ("tiny", "small"):
        return f"{geometry} is not a machine"
    arena = GEOMETRIES[geometry].arena
    if arena.end > _LOWEST_OF_32_BITS and not arena.start:
        return f"all of user space is the case's on {geometry}, where the program itself must lie"
    for call in case.calls:
        if call.name in _IMPOSSIBLE:
            return f"{call.name}: {_IMPOSSIBLE[call.name]}"
        if call.name.startswith(IN_BETWEEN):
            return f"{call.name}: when others come in between is chance"
        kinds, whys = _DIRECTIVES.get(call.name, ((), {}))
        if whys and (why := whys.get(kinds[call.args[0]])):
            return f"{call.name} {kinds[call.args[0]]}: {why}"
    missing = _ABLE.missing(case)
    return f"{missing[0]}: a machine is short of memory for all of a call" if missing else ""


def _limit(call: Call) -> str:
    return limits.KINDS[call.args[0]]


def needs(pair: Twins) -> Iterator[str]:
    """Statements of C, in order, that set the process up, or end it if something is missing."""
    case = pair.case
    names = {call.name for call in case.calls}
    yield "need_page_size();"
    geometry = pair.kernel.geometry
    if machine := _machine(geometry):
        yield f'need_machine("{machine}");'
    elif _is_for_64_bits(pair):
        yield "need_64_bits();"
    yield "need_free_arena();"
    if any(_covers_a_slot(call, geometry.slot_bytes) for call in case.calls):
        yield f'need_setting("{_THP}/enabled", "[madvise]");'
        yield f'need_setting("{_THP}/shmem_enabled", "[never]");'
    if (most := _most_asked(case)) > _MUCH:
        yield f"need_memory_for({most:#x}ULL);"
    if "swapout" in names:
        yield "need_swap();"
    elif any(call.name == "madvise" and call.args[2] == uapi.MADV_PAGEOUT for call in case.calls):
        yield "need_no_swap();"
    if "soft_dirty_clear" in names:
        yield "need_soft_dirty();"
    if any(_executes_only(call) for call in case.calls):
        keys = pair.kernel.geometry.exec_only_keys
        yield "need_protection_keys();" if keys else "take_protection_keys();"
    if any(call.name == "mmap" and call.args[3] & uapi.MAP_HUGETLB for call in case.calls):
        yield "need_huge_pages();"
    if any(call.name == "mmap" and call.args[3] & uapi.MAP_GROWSDOWN for call in case.calls):
        yield "limit_stack();"
    if any(_lets_choose(call) for call in case.calls):
        yield "need_addresses_from_above();"
        yield "occupy_the_rest();"
    if not names.isdisjoint(("touch", "peek")):
        yield "handle_faults();"


def definitions(kernel: Kernel) -> dict[str, str]:
    """What helpers take for granted of a machine: lines of C, by the name that they define."""
    geometry = kernel.geometry
    start, length = geometry.arena.start, geometry.arena.length
    arena = f"#define ARENA {start:#x}UL\n#define ARENA_BYTES {length:#x}UL"
    if geometry.word_bits == 64:  # on 32 bits it is built, too, and may be tried
        low = (
            f"#define ARENA {_ARENA_OF_32_BITS:#x}UL\n#define ARENA_BYTES {_REACH_OF_32_BITS:#x}UL"
        )
        arena = f"#if __SIZEOF_POINTER__ == 8\n{arena}\n#else\n{low}\n#endif"
    return {
        "GEOMETRY": f'#define GEOMETRY "{geometry.name}"',
        **{f"FILE_{letter}": f"#define FILE_{letter} {fd}" for letter, fd in FILES.items()},
        "ARENA": arena,
        "PAGE": f"#define PAGE {geometry.page_bytes}UL",
        "SLOT": f"#define SLOT {geometry.slot_bytes:#x}UL",
        "KERNEL": f'#define KERNEL "{kernel.name}"',
        "RELEASE": f'#define RELEASE "{base_of(kernel.name).removeprefix("linux-")}"',
    }


def _machine(geometry: Geometry) -> str:
    """Whose page tables no other machine has, as `uname -m` prints it; "": any has those."""
    if geometry.has_tags:
        return "aarch64"
    return "" if geometry.word_bits == 64 else "i686"


def begins(pair: Twins, code: str) -> Iterator[str]:
    """Statements of C right before the first call.  Arguments: `code` the checks."""
    names = {call.name for call in pair.case.calls}
    words = set(re.findall(r"[\w-]+", code))
    if not words.isdisjoint(("soft-dirty", "-soft-dirty", "sd", "-sd")):
        yield "need_soft_dirty();"
    if not names.isdisjoint(("uffd_register", "uffd_wp", "uffd_rwp")):
        yield "begin_monitor();"
    if "@fail" in names:
        yield "begin_shortage();"
    for begin, functions in _BEGINS.items():
        if not words.isdisjoint(functions):
            yield f"{begin}();"
    for call in pair.case.calls:
        if call.name == "@limit":
            yield f"{_SETS[_limit(call)]}({call.args[1]:#x});"
            yield f'TELL_LINE("{format_call(call)}");'


_BEGINS = {
    "begin_committed": ("committed_pages",),
    "begin_huge": ("used_huge", "reserved_huge"),
    "begin_warnings": ("kernel_warned",),
    "begin_tables": ("tables_kib",),
}
_SETS = {
    "map_count": "limit_mappings",
    "as": "limit_address_space",
    "memlock": "limit_locked",
}
assert FAILURES.keys() == set(failures.KINDS) and LIMITS.keys() == set(limits.KINDS)


def _is_for_64_bits(pair: Twins) -> bool:
    """Is there no room for it in 32 bits, or a number that does not fit?"""
    calls = pair.case.calls
    if any(
        call.name == "@fail" or (call.name == "@limit" and _limit(call) == "map_count")
        for call in calls
    ):
        return True  # what these set up lies above the arena
    wide = (
        isinstance(param.kind, Address | Length | Offset) and value > _WORD_OF_32_BITS
        for call in calls
        for param, value in zip(CALLS[call.name].params, call.args, strict=True)
    )
    return _reach(pair) > _REACH_OF_32_BITS or any(wide)


def _reach(pair: Twins) -> int:
    """How far into the arena the calls and their results reach, in bytes."""
    ends = [0]
    for call in pair.case.calls:
        ends += [call.args[at] for at in CALLS[call.name].addresses]
    ends += [result for result in pair.shown.results if isinstance(result, int)]
    ends += [end for _, end, *_ in pair.shown.observation.get("vmas", ())]
    return max(end for end in ends if end < pair.kernel.geometry.arena.length * 2)


def _covers_a_slot(call: Call, slot: int) -> bool:
    """May a huge page come of it?"""
    span = CALLS[call.name].span
    if call.name == "madvise" and call.args[2] in (uapi.MADV_HUGEPAGE, uapi.MADV_COLLAPSE):
        return True
    if span is None or span.is_point:
        return False
    start, length = span.of(call.args)
    if length > _HUGE_LENGTH:
        return False
    return -(-start // slot) * slot + slot <= start + length


def _most_asked(case: Case) -> int:
    """The most bytes that one call asks for, as far as it may have them."""
    asked = [0]
    for call in case.calls:
        if call.name == "mmap" and not call.args[3] & uapi.MAP_NORESERVE:
            asked.append(call.args[1])
        if call.name == "mremap":
            asked.append(call.args[2])
    return max(length for length in asked if length < _HUGE_LENGTH)


def _executes_only(call: Call) -> bool:
    """Is memory to be executed that may not be read?"""
    prot = call.args[2] if call.name in ("mmap", "mprotect") else 0
    return bool(prot & uapi.PROT_EXEC) and not prot & uapi.PROT_READ


def _lets_choose(call: Call) -> bool:
    """May the kernel choose an address?"""
    if call.name == "mmap":
        return not call.args[3] & uapi.MAP_FIXED
    return call.name == "mremap" and call.args[3] & 3 == uapi.MREMAP_MAYMOVE

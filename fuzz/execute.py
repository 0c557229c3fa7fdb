"""Run a case on a model kernel: calls in, results, page-table bytes and violations out."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from engine.address import Range
from engine.facts import Facts
from engine.fault import Faulted, access_range, peek, touch
from engine.fork import exit_child, fork
from engine.kernel import Kernel
from engine.madvise import madvise
from engine.move import Move
from engine.mremap import mremap
from engine.observer import PMD_OCCUPIED, PUD_OCCUPIED, Observer
from engine.reclaim import migrate_begin, migrate_end, soft_dirty_clear, swapout
from engine.rules_call import Request, Snapshot, check_execve_stack, check_mremap
from engine.rules_entry import UffdState, check_uffd
from engine.rules_errors import (
    check_errors,
    check_relocate_errors,
    check_stack_errors,
)
from engine.rules_layout import check_layout
from engine.rules_limits import Attempts, check_refused_stack
from engine.rules_mapping import check_growth, check_mapping, check_stack_mapping
from engine.rules_move import MoveRules
from engine.rules_places import check_free, check_mmap, check_munmap
from engine.rules_state import StateRules, check_emptied, check_fresh
from engine.rules_tlb import check_tlb
from engine.seal import mseal
from engine.space import AddressSpace, Errno
from engine.stack import execve_stack, relocate
from engine.syscalls import mlock, mmap, mprotect, munlock, munmap
from engine.tlb import touch_on
from engine.uffd import uffd_register, uffd_wp
from engine.violation import Violation
from fuzz.arena import leaves_arena
from fuzz.case import (
    ADVICE,
    FAILURES,
    LIMITS,
    REMAP_FLAGS,
    Call,
    Case,
    CaseError,
    Faults,
    Result,
)
from fuzz.oracle import Mismatch, Oracle

# Calls after which the page tables may be wrong in a new way: every rule is checked there.
# Measured by `python -m fuzz.bench rules`.
RulesAfter = Literal["last", "moving", "call"]
_FIXED = REMAP_FLAGS["MREMAP_FIXED"]
_DONTNEED = ADVICE["MADV_DONTNEED"]
_MOVING = frozenset(("mremap", "execve_stack", "relocate"))
_CHECKED = _MOVING | {"mmap", "munmap"}
_REPLACING = frozenset(("execve_stack", "relocate"))  # an address space that nothing was asked for
_MAPPING = frozenset(("mmap", "mremap"))  # have a check of their own of how many VMAs there are


class Found(NamedTuple):
    """A violation, and the index of the call during or after which it was noticed."""

    call: int
    violation: Violation


@dataclass(slots=True)
class Outcome:
    """What running a case showed.

    `results` of the calls that ran; `page_tables` bytes of page tables after each, as VmPTE;
    `violations` in order; `space` the state at the end.
    """

    case: Case
    kernel: Kernel
    space: AddressSpace
    results: list[Result] = field(default_factory=list)
    page_tables: list[int] = field(default_factory=list)
    violations: list[Found] = field(default_factory=list)


class _Watch:
    """The observers of one run as one: the rules, a count of occupied entries, and the caller's."""

    __slots__ = ("_caller", "_rules", "occupied")

    def __init__(self, caller: Observer | None, check: bool) -> None:
        self._caller = caller
        self._rules = MoveRules() if check else None
        self.occupied = 0

    def __call__(self, point: str, move: Move, extent: int) -> None:
        if point is PMD_OCCUPIED or point is PUD_OCCUPIED:
            self.occupied += 1
        if self._rules is not None:
            self._rules(point, move, extent)
        if self._caller is not None:
            self._caller(point, move, extent)


def execute(
    case: Case,
    kernel: Kernel,
    *,
    observer: Observer | None = None,
    stop: bool = True,
    on_step: Callable[[int, AddressSpace], None] | None = None,
    check: bool = True,
    oracle: bool = True,
    rules_after: RulesAfter = "moving",
    commit_limit_bytes: int | None = None,
) -> Outcome:
    """Run a case from an empty address space.

    Arguments: `stop` ends the program at the first violation; `on_step` is called with -1 before
    the first call and with its index after each; `check` switches the rules on, `oracle` the
    comparison of contents, too (only with `check`); `rules_after` after which calls the whole
    state is judged: the last, every moving one, or each; `commit_limit_bytes` see Limits.request.
    Errors raised: CaseError for a call the model does not know.
    """
    watch = _Watch(observer, check) if check or observer else None
    space = AddressSpace(kernel, watch)
    space.limits.request = commit_limit_bytes
    if check:
        space.violations += check_fresh(space)
    outcome = Outcome(case, kernel, space)
    geometry = space.geometry
    narrow = geometry.word_bits < 64
    reference = (
        Oracle(geometry.page_bytes, geometry.word_bits, geometry.slot_bytes)
        if check and oracle
        else None
    )
    state_rules = StateRules()
    if on_step is not None:
        on_step(-1, space)
    for index, call in enumerate(case.calls):
        if narrow:
            call = _in_words(call, space.geometry.word_mask)
        if call.name == "madvise" and call.args[2] > _INT_MASK:
            call = call.with_arg(2, call.args[2] & _INT_MASK)
        last, moving = index == len(case.calls) - 1, call.name in _MOVING
        handler = _HANDLERS.get(call.name)
        if handler is None:
            raise CaseError(f"{call.name} is not modelled; known calls: {', '.join(_HANDLERS)}")
        counted = Attempts(space) if check and space.failures.armed else None
        if leaves_arena(space, call):
            result: Result = "SKIP"
        elif check and call.name in _CHECKED:
            result = _run_checked(space, call, watch)
        else:
            result = handler(space, *call.args)
        if check and kernel.reclaims_tables and call.name == "madvise" and result == 0:
            start, length, advice = _real(space, call.args[0]), *call.args[1:]
            if advice == _DONTNEED:
                space.violations += check_emptied(space, start, start + length)
        if counted is not None and call.name not in _REPLACING:
            splits = call.name not in _MAPPING
            space.violations += counted.check_vmas(space, splits=splits)
        outcome.results.append(result)
        outcome.page_tables.append(space.tree.bytes_used())
        if check and (last or rules_after == "call" or (moving and rules_after == "moving")):
            space.violations += state_rules.check(space)
        if check and space.tlb.cached:
            space.violations += check_tlb(space)
        if reference is not None:
            # A failed madvise may have got any part of its way: the oracle has to look.
            looking = last or moving or (call.name == "madvise" and result != 0)
            looked_at = space.contents() if looking else None
            mapped = lambda: list(space.mapped())  # noqa: E731
            for mismatch in reference.apply(call, result, looked_at, mapped):
                space.report(_disagreement(space, mismatch))
        if space.violations:
            outcome.violations += [Found(index, violation) for violation in space.violations]
            space.violations = []
        if on_step is not None:
            on_step(index, space)
        if stop and outcome.violations:
            break
    return outcome


def _run_checked(space: AddressSpace, call: Call, watch: _Watch | None) -> Result:
    """Run a call, and the rules that compare the state before it with the one after."""
    base, mask = space.arena.start, space.geometry.word_mask
    if call.name == "mmap":
        addr, length, prot, flags, _, offset = call.args
        facts, addr = Facts.of(space), (base + addr) & mask
        placed = mmap(space, addr, length, prot, flags, offset)
        space.violations += check_mmap(facts, addr, length, flags, placed)
        return _address_result(space, placed)
    if call.name == "munmap":
        facts, addr = Facts.of(space), (base + call.args[0]) & mask
        error = munmap(space, addr, call.args[1])
        space.violations += check_munmap(facts, addr, call.args[1], error)
        return _error_result(error)
    if call.name == "mremap":
        before, facts = Snapshot(space), Facts.of(space)
        addr, old_len, new_len, flags, new_addr = call.args
        request = Request((base + addr) & mask, old_len, new_len, flags, (base + new_addr) & mask)
        registered = UffdState(space) if space.uffds else None
        returned = mremap(space, *request)
        space.violations += check_mremap(space, before, request, returned)
        space.violations += check_errors(facts, *request, returned)
        space.violations += check_mapping(space, before, request, returned)
        space.violations += check_growth(space, request, returned)
        if registered is not None:
            space.violations += check_uffd(space, registered, request, returned)
        space.violations += check_layout(space, facts, request, returned)
        if isinstance(returned, int) and returned != request.addr and not flags & _FIXED:
            space.violations += check_free(facts, returned, new_len)
        return _address_result(space, returned)
    if call.name == "execve_stack":
        assert watch is not None
        start, end, shift = (base + call.args[0]) & mask, (base + call.args[1]) & mask, call.args[2]
        first_tag, watch.occupied = space.next_tag, 0
        facts = Facts.of(space)
        error = execve_stack(space, start, end, shift)
        space.violations += check_stack_errors(facts, start, end, shift, error)
        space.violations += check_refused_stack(space, start, end, error)
        space.violations += check_stack_mapping(space, Range(start, max(start, end)), error)
        if error is None:
            space.violations += check_execve_stack(
                space, start, end, shift, first_tag, watch.occupied
            )
        return _error_result(error)
    facts = Facts.of(space)
    start, end, shift = (base + call.args[0]) & mask, (base + call.args[1]) & mask, call.args[2]
    error = relocate(space, start, end, shift)
    space.violations += check_relocate_errors(facts, start, end, shift, error)
    return _error_result(error)


def _disagreement(space: AddressSpace, mismatch: Mismatch) -> Violation:
    page, base = space.geometry.page_bytes, space.arena.start
    start = base + mismatch.start_page * page
    return Violation(
        "oracle-contents",
        Range(start, start + mismatch.count * page),
        f"{mismatch.kind} {mismatch.found}",
        str(mismatch.expected),
    )


# --- results ------------------------------------------------------------------------------------


def _address_result(space: AddressSpace, returned: int | Errno) -> Result:
    if isinstance(returned, Errno):
        return str(returned)
    arena = space.arena
    return returned - arena.start if arena.start <= returned < arena.end else "OUT"


def _error_result(error: Errno | None) -> Result:
    return 0 if error is None else str(error)


def _fault_result(space: AddressSpace, faulted: Faulted) -> Result:
    if not faulted:
        return 0
    shift, base = space.geometry.page_shift, space.arena.start

    def pages(runs: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
        return tuple(((addr - base) >> shift, count) for addr, count in runs)

    return Faults(pages(faulted.segv), pages(faulted.bus))


# --- calls --------------------------------------------------------------------------------------


def _real(space: AddressSpace, offset: int) -> int:
    """The address of an arena offset, in the machine's arithmetic."""
    return (space.arena.start + offset) & space.geometry.word_mask


def _mmap(
    space: AddressSpace, addr: int, length: int, prot: int, flags: int, fd: int, offset: int
) -> Result:
    del fd  # ignored for anonymous memory, the only kind there is
    return _address_result(space, mmap(space, _real(space, addr), length, prot, flags, offset))


def _munmap(space: AddressSpace, addr: int, length: int) -> Result:
    return _error_result(munmap(space, _real(space, addr), length))


def _mprotect(space: AddressSpace, addr: int, length: int, prot: int) -> Result:
    return _error_result(mprotect(space, _real(space, addr), length, prot))


def _madvise(space: AddressSpace, addr: int, length: int, advice: int) -> Result:
    return _error_result(madvise(space, _real(space, addr), length, advice))


def _mlock(space: AddressSpace, addr: int, length: int) -> Result:
    return _error_result(mlock(space, _real(space, addr), length))


def _munlock(space: AddressSpace, addr: int, length: int) -> Result:
    return _error_result(munlock(space, _real(space, addr), length))


def _mremap(
    space: AddressSpace, addr: int, old_len: int, new_len: int, flags: int, new_addr: int
) -> Result:
    returned = mremap(space, _real(space, addr), old_len, new_len, flags, _real(space, new_addr))
    return _address_result(space, returned)


def _touch(space: AddressSpace, addr: int, length: int) -> Result:
    return _fault_result(space, touch(space, *access_range(space, _real(space, addr), length)))


def _peek(space: AddressSpace, addr: int, length: int) -> Result:
    return _fault_result(space, peek(space, *access_range(space, _real(space, addr), length)))


def _execve_stack(space: AddressSpace, start: int, end: int, shift: int) -> Result:
    return _error_result(execve_stack(space, _real(space, start), _real(space, end), shift))


def _relocate(space: AddressSpace, start: int, end: int, shift: int) -> Result:
    return _error_result(relocate(space, _real(space, start), _real(space, end), shift))


def _mseal(space: AddressSpace, addr: int, length: int) -> Result:
    return _error_result(mseal(space, _real(space, addr), length))


def _uffd_register(space: AddressSpace, addr: int, length: int, mode: int, features: int) -> Result:
    return _error_result(uffd_register(space, _real(space, addr), length, mode, features))


def _uffd_wp(space: AddressSpace, addr: int, length: int, on: int) -> Result:
    return _error_result(uffd_wp(space, _real(space, addr), length, on))


def _fork(space: AddressSpace) -> Result:
    fork(space)
    return 0


def _exit_child(space: AddressSpace) -> Result:
    exit_child(space)
    return 0


def _swapout(space: AddressSpace, addr: int, length: int) -> Result:
    return _error_result(swapout(space, _real(space, addr), length))


def _migrate_begin(space: AddressSpace, addr: int) -> Result:
    return _error_result(migrate_begin(space, _real(space, addr)))


def _migrate_end(space: AddressSpace, addr: int) -> Result:
    return _error_result(migrate_end(space, _real(space, addr)))


def _soft_dirty_clear(space: AddressSpace) -> Result:
    soft_dirty_clear(space)
    return 0


def _touch_on(space: AddressSpace, cpu: int, addr: int) -> Result:
    touch_on(space, cpu, _real(space, addr))
    return 0


def _fail(space: AddressSpace, kind: int, nth: int) -> Result:
    space.failures.arm(_FAILURES[kind], nth)
    return 0


def _limit(space: AddressSpace, name: int, value: int) -> Result:
    match _LIMITS[name]:
        case "map_count":
            space.max_map_count = value
        case "as":
            space.limits.address_space = value
        case "memlock":
            space.limits.locked = value
        case "commit":
            space.limits.commit = value
    return 0


_FAILURES, _LIMITS = tuple(FAILURES), tuple(LIMITS)
_HANDLERS: dict[str, Callable[..., Result]] = {
    "mmap": _mmap,
    "munmap": _munmap,
    "mprotect": _mprotect,
    "mremap": _mremap,
    "madvise": _madvise,
    "mlock": _mlock,
    "munlock": _munlock,
    "touch": _touch,
    "peek": _peek,
    "execve_stack": _execve_stack,
    "relocate": _relocate,
    "mseal": _mseal,
    "uffd_register": _uffd_register,
    "uffd_wp": _uffd_wp,
    "fork": _fork,
    "exit_child": _exit_child,
    "swapout": _swapout,
    "migrate_begin": _migrate_begin,
    "migrate_end": _migrate_end,
    "soft_dirty_clear": _soft_dirty_clear,
    "touch_on": _touch_on,
    "@fail": _fail,
    "@limit": _limit,
}
MODELLED_CALLS = frozenset(_HANDLERS)
_INT_MASK = 0xFFFFFFFF  # madvise(2) takes its advice as a C int: what lies above is dropped


def _in_words(call: Call, mask: int) -> Call:
    """A call as a program of a narrower machine makes it: operands cut to its registers."""
    return call._replace(args=tuple(arg & mask if arg > 0 else arg for arg in call.args))

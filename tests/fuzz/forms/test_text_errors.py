"""The text form: where errors point, and what they say."""

import pytest

from fuzz.case import MAX_CALLS, MAX_CASE_BYTES, CaseError
from fuzz.forms.text import parse, parse_call

# A line, and under it a caret at the column to blame and what the message says.
ERRORS = """\
# the call and its parentheses
mumap(1, 2)
^ unknown call 'mumap'; did you mean munmap?
  xyzzy(1)
  ^ unknown call 'xyzzy'; known: mmap, munmap
munmap 1, 2)
      ^ expected '(' after munmap
munmap
      ^ expected '(' after munmap
fork)
    ^ expected '(' after fork
munmap(1, 2
           ^ missing ')'
munmap(1, 2 = 0
           ^ missing ')'
touch(1, 2 = SEGV[0x0, 0x1000)
          ^ missing ')'
munmap(1, 2) x
             ^ unexpected 'x' after the call
munmap(1, 2)) = 0
            ^ unexpected ') = 0' after the call
)
^ expected a call, a header line

# commas and counts
munmap(1 2)
         ^ addr: missing ',' before '2'
munmap(1,, 2)
         ^ misplaced ','
munmap(, 2)
       ^ misplaced ','
munmap(1, 2, )
             ^ misplaced ','
munmap(1; 2)
        ^ addr: expected ',' or ')', found ';'
mprotect(1, 2, PROT_READ 3)
                         ^ missing ',' before '3'
munmap()
       ^ too few operands: munmap(addr, len)
munmap( 1 )
          ^ too few operands: munmap(addr, len)
munmap(1, 2,  3)
              ^ too many operands: munmap(addr, len)
mremap(1, 2, 3)
              ^ flags[, new_address])

# numbers
munmap(x, 2)
       ^ addr: expected a number, found 'x'
munmap(1, 0x12g)
          ^ len: '0x12g' is not a number
munmap(1, 0x)
          ^ len: '0x' is not a number
munmap(1, 010)
          ^ a decimal number has no leading zero
munmap(1, 1_000)
          ^ len: '1_000' is not a number
munmap(0x10000000000000000, 2)
       ^ addr: 0x10000000000000000 is out of range
munmap(18446744073709551616, 2)
       ^ out of range
munmap(1, -0x8000000000000001)
          ^ out of range
mmap(1, 2, 3, 4, 2147483648)
                 ^ fd: 2147483648 is out of range
mprotect(1, 2, -1)
               ^ prot: -1 is out of range

# flags
mprotect(1, 2, PROT_RAED)
               ^ did you mean PROT_READ?
mprotect(1, 2, PROT_READ|XY)
                         ^ unknown protection 'XY'; valid: PROT_NONE, PROT_READ, PROT_WRITE
mprotect(1, 2, PROT_READ || 1)
                          ^ misplaced '|'
mprotect(1, 2, PROT_READ|)
                         ^ misplaced '|'
mremap(1, 2, 3, MAP_FIXED)
                ^ unknown remap flags 'MAP_FIXED'; did you mean MREMAP_FIXED?
madvise(1, 2, MADV_DONTNED)
              ^ did you mean MADV_DONTNEED?
madvise(1, 2, MADV_FREE|1)
                       ^ an advice is one value

# results
munmap(1, 2) =
             ^ '=' without a value
munmap(1, 2) = # none
             ^ '=' without a value
munmap(1, 2) = EINVAL
               ^ 'EINVAL' is not a result
munmap(1, 2) = -1
               ^ '-1' is not a result
munmap(1, 2) = 0x1 y
                   ^ unexpected 'y' after the result
munmap(1, 2) = -EINVAL  y
                        ^ unexpected 'y' after the result
munmap(1, 2) = 0x1ffffffffffffffff
               ^ out of range
munmap(1, 2) = 0x1z
               ^ '0x1z' is not a number
munmap(1, 2) = SEGV[0x0, 0x1000)
               ^ only touch and peek report faults
touch(1, 2) = SEGV
              ^ expected SEGV[START, END)
touch(1, 2) = SEGV[0x0, 0x1000]
              ^ expected SEGV[START, END)
touch(1, 2) = SEGV[0x10, 0x1000)
                   ^ 0x10 is not a multiple of the page size
touch(1, 2) = SEGV[0x0, 0x10)
                        ^ 0x10 is not a multiple of the page size
touch(1, 2) = SEGV[0x0, x)
                        ^ expected a number, found 'x'
touch(1, 2) = SEGV[0x1000, 0x1000)
                   ^ the range is empty
touch(1, 2) = BUS[0x0, 0x1000) SEGV[0x1000, 0x2000)
                               ^ SEGV ranges come before BUS ranges
touch(1, 2) = SEGV[0x1000, 0x2000) SEGV[0x2000, 0x3000)
                                        ^ with a gap between them
touch(1, 2) = SEGV[0x0, 0x1000)BUS[0x1000, 0x2000)
                               ^ expected a blank, found 'B'

# headers
@kernal linux-6.1
^ did you mean @kernel?
 @
 ^ unknown header '@'; known: @kernel
@kernel
^ @kernel without a value
@found
^ @found without a value
@kernel linux-9
        ^ unknown kernel 'linux-9'; known: linux-5.0 to linux-7.3
@geometry vax
          ^ unknown geometry 'vax'; known: x86-64
@kernel linux-6.1 again
                  ^ unexpected 'again' after @kernel
@hypothetical yes
              ^ unexpected 'yes' after @hypothetical
@expect linux-9 ok
        ^ unknown kernel 'linux-9'
@expect Not_A_Rule
        ^ expected ok or the name of a rule
@expect linux-6.1 ok x
                     ^ unexpected 'x' after @expect
# directives
@fail
^ something is missing: @fail KIND NTH
@fail pagetables 1
      ^ unknown kind of failure 'pagetables'; known: pagetable, vma, commit, maps, hook
@fail vma 0
          ^ 0 is out of range: 0x1 to 0x100000
@fail vma 1 2
            ^ unexpected '2': @fail KIND NTH
@fail vma 1 = 0
            ^ unexpected '=': @fail KIND NTH
@fails vma 1
^ unknown header '@fails'; did you mean @fail?
@limit as
^ something is missing: @limit NAME VALUE
@limit as -1
          ^ -1 is out of range
@limit stack 1
       ^ unknown limit 'stack'; known: map_count, as, memlock, commit
# calls without operands, and with numbers that have bounds
fork(1)
     ^ too many operands: fork()
touch_on(4, 0x1000)
         ^ cpu: 4 is out of range: 0x0 to 0x3
uffd_wp(0x1000, 0x1000, 2)
                        ^ on: 2 is out of range: 0x0 to 0x1
"""


def errors() -> list[tuple[str, str, str]]:
    """The line, the caret under it and the text beside the caret, for each of ERRORS."""
    lines = [line for line in ERRORS.split("\n") if line and not line.startswith("# ")]
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [(line, below.split("^")[0] + "^", below.split("^ ")[1]) for line, below in pairs]


@pytest.mark.parametrize(
    ("line", "caret", "why"),
    [
        *errors(),
        ("\u00a0munmap(1, 2)", "^", "expected a call, a header line"),
        (f"munmap({'9' * 5000}, 2)", "       ^", "out of range"),
        ("munmap(1, 2\r)", "           ^", "expected ',' or ')', found '\\r'"),
    ],
)
def test_error_points_at(line: str, caret: str, why: str) -> None:
    with pytest.raises(CaseError) as caught:
        parse(f"# one\n{line}\n# three\n", "a.case")
    error = caught.value
    assert why in error.why
    assert (error.file, error.line, error.column) == ("a.case", 2, len(caret))
    shown = line.rstrip(" ")
    assert error.source == shown
    assert str(error) == f"a.case:2:{len(caret)}: {error.why}\n  {shown}\n  {caret}"


@pytest.mark.parametrize(
    ("text", "line", "column", "why"),
    [
        ("@kernel linux-6.1\n @kernel linux-6.1", 2, 2, "duplicate @kernel"),
        ("@geometry tiny\n@geometry tiny", 2, 1, "duplicate @geometry"),
        ("@hypothetical\n@hypothetical", 2, 1, "duplicate @hypothetical"),
        ("@expect ok\n@expect dest-entry-none", 2, 1, "duplicate @expect"),
        ("@expect linux-6.1 ok\n@expect linux-6.1 ok", 2, 1, "duplicate @expect linux-6.1"),
        ("munmap(1, 2)\n\n  @found it", 3, 3, "header lines come before the first call"),
        ("@fail vma 1\n@limit as 1", 2, 1, "header lines come before the first call"),
        ("@limit as 1\n@limit as 2", 2, 1, "duplicate @limit as"),
        ("munmap(1, 2)\n" * MAX_CALLS + "\n munmap(1, 2)", MAX_CALLS + 2, 2, "more than 256 calls"),
        ("#" * (MAX_CASE_BYTES + 1), 0, 0, "longer than 65536 bytes"),
        ("#" + "\u20ac" * (MAX_CASE_BYTES // 2), 0, 0, "longer than 65536 bytes"),
    ],
)
def test_error_of_a_whole_text(text: str, line: int, column: int, why: str) -> None:
    with pytest.raises(CaseError) as caught:
        parse(text)
    assert (caught.value.line, caught.value.column, caught.value.why) == (line, column, why)


def test_limits_themselves_are_allowed() -> None:
    assert len(parse("munmap(1, 2)\n" * MAX_CALLS).calls) == MAX_CALLS
    assert parse("#" * MAX_CASE_BYTES).calls == ()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("file(Z, 0x1000)", "unknown file 'Z'; known: A, B, C, D, E, F, G, H"),
        ("file(200, 0x1000)", "unknown file '200'"),
        ("mmap(0x0, 0x1000, PROT_READ, MAP_SHARED, Z)", "fd: expected a number, found 'Z'"),
        ("fallocate(A, PUNCH, 0x0, 0x1000)", "unknown fallocate mode 'PUNCH'"),
    ],
)
def test_what_is_no_file_is_told(line: str, why: str) -> None:
    with pytest.raises(CaseError) as refused:
        parse_call(line)
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("munmap(0,\n", 1),  # nothing follows
        ("munmap(0x1000, 0x1000) # so,\nmunmap(0,\n0x1000) x\nmunmap(0, 1)\n", 2),
        ("\nmunmap(0x1000,\n# no,\n0x1000)\n", 2),
        ("@at iteration 2: ftruncate(A,\n", 1),
        ("@at" + " at" * 20_000, 1),
        ("munmap(" + "0,\n" * 20_000, 1),  # as fast as it is long
    ],
)
def test_what_is_wrong_in_a_folded_call_is_told_at_its_beginning(text: str, line: int) -> None:
    with pytest.raises(CaseError) as error:
        parse(text)
    assert error.value.line == line

#!/bin/sh
# Which instructions does `dis` call jump targets?  For a function with a try block it depends on how one
# asks, and on the version.
#
# Guess: instruction.is_jump_target is a fact about the code.
# Seen, CPython 3.12.1 and 3.13.0, x86-64: dis.get_instructions() leaves out where exception handlers
# begin; dis.Bytecode() has them, and on 3.13 the starts and ends of the protected ranges as well, to
# which nothing jumps.  Whoever cuts code into basic blocks with either gets them wrong: take the
# exception table, or begin a block behind each return and raise.
#
# usage: dis-forgets-handlers.sh [PYTHON ...]      default: python3.12 python3.13
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.py" <<'PROGRAM'
import dis
import sys


def handled(x):
    try:
        return 1 // x
    except ZeroDivisionError:
        return 0


def targets(instructions):
    return {one.offset for one in instructions if one.is_jump_target}


table = dis.Bytecode(handled).exception_entries
handlers = {entry.target for entry in table}
ends = {place for entry in table for place in (entry.start, entry.end)} - handlers
listed, bytecode = targets(dis.get_instructions(handled)), targets(dis.Bytecode(handled))
version = sys.version_info[:2]
print(f"CPython {sys.version.split()[0]}")
print(f"  handlers {sorted(handlers)}, other ends of protected ranges {sorted(ends)}")
print(f"  get_instructions: {sorted(listed)}")
print(f"  Bytecode:         {sorted(bytecode)}")
assert handlers and handlers.isdisjoint(listed), "get_instructions counts handlers now"
assert handlers <= bytecode, "Bytecode counts no handlers any more"
extra = bytecode - handlers - listed
assert bool(extra) == (version >= (3, 13)), f"Bytecode counts {sorted(extra)} as well"
assert extra <= ends
PROGRAM
[ $# -gt 0 ] || set -- python3.12 python3.13
tried=0
for python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        "$python" "$folder/seen.py"
        tried=$((tried + 1))
    else
        echo "$python: not here, or older than 3.12; name another one"
    fi
done
[ "$tried" -gt 0 ] || exit 2
echo "as described"

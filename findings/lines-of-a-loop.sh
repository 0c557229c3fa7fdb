#!/bin/sh
# How many line events does a loop have that stands on one line?
#
# Guess: since CPython 3.12 sys.settrace is made of sys.monitoring, so both tell the same lines; one event
# for each round, or one for the whole loop.
# Seen, CPython 3.12.1 and 3.13.0, x86-64: sys.settrace has one for each round, LINE of sys.monitoring none but
# the first: of `while n: n -= 1` on one line, of a comprehension, of a generator expression, however often they go
# round.  On two lines both count every round.  A limit on lines by sys.monitoring never ends `while
# True: pass`; the JUMP and BRANCH events see it.  On 3.11.7 sys.settrace counts rounds as well, but not those
# of that very loop, which is a single instruction there: a few events, and no more.
#
# usage: lines-of-a-loop.sh [PYTHON ...]      default: python3.11 python3.12 python3.13
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/seen.py" <<'PROGRAM'
import signal
import sys

ROUNDS = {
    "while": "def loop(n):\n    while n: n -= 1\n",
    "for": "def loop(n):\n    for _ in range(n): pass\n",
    "comprehension": "def loop(n):\n    return [i for i in range(n)]\n",
    "generator": "def loop(n):\n    return sum(i for i in range(n))\n",
}
TWO_LINES = "def loop(n):\n    while n:\n        n -= 1\n"
ENDLESS = "def loop(_):\n    while True: pass\n"


class Over(Exception):
    pass


def ring(*_):
    raise Over


def made(text):
    space = {}
    exec(compile(text, "loop.py", "exec"), space)
    return space["loop"]


def run(loop, n):
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.3)  # for the one that has no end
    try:
        loop(n)
    except Over:
        pass
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def traced(loop, n):
    count = 0

    def local(frame, event, argument):
        nonlocal count
        count += event == "line"
        return local

    sys.settrace(local)
    run(loop, n)
    sys.settrace(None)
    return count


def monitored(loop, n):
    count = 0

    def line(code, number):
        nonlocal count
        count += 1

    watch, tool = sys.monitoring, sys.monitoring.DEBUGGER_ID
    watch.use_tool_id(tool, "lines")
    watch.register_callback(tool, watch.events.LINE, line)
    watch.set_events(tool, watch.events.LINE)
    run(loop, n)
    watch.set_events(tool, 0)
    watch.free_tool_id(tool)
    return count


signal.signal(signal.SIGVTALRM, ring)
print("CPython", sys.version.split()[0])
ways = [traced, monitored] if sys.version_info >= (3, 12) else [traced]
more = {"settrace": [], "monitoring": []}
for text in (*ROUNDS.values(), TWO_LINES):
    for way, name in zip(ways, more):
        more[name].append(way(made(text), 20) - way(made(text), 10))
print("  events for ten more rounds on one line:", *ROUNDS, "; on two lines: while")
for name, counts in more.items():
    if counts:
        print(f"  {name:10}", *counts)
assert more["settrace"] == [10, 10, 10, 10, 20]
assert more["monitoring"] in ([], [0, 0, 0, 0, 20])
endless = [way(made(ENDLESS), 0) for way in ways]
print("  while True: pass, for 0.3 seconds:", *endless)
if sys.version_info < (3, 12):
    assert endless[0] < 50
else:
    assert endless[0] > 1000 and endless[1] < 50
PROGRAM
[ $# -gt 0 ] || set -- python3.11 python3.12 python3.13
tried=0
for python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        "$python" "$folder/seen.py"
        tried=$((tried + 1))
    else
        echo "$python: not here, or older than 3.11; name another one"
    fi
done
[ "$tried" -gt 0 ] || exit 2
echo "as described"

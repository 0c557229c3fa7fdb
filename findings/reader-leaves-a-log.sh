#!/bin/sh
# An SQLite database with a write-ahead log, closed by all who wrote it: one file is left.  What does a
# reader leave behind who opens it read-only (mode=ro)?
#
# Guess: nothing; who may not write creates no files, and a log beside a database means that somebody
# has it open, or was killed.
# Seen, SQLite 3.54.1 (apsw 3.54.1.0), and the same with 3.40.1: the reader creates DB-wal (empty) and
# DB-shm (32 KiB), and they stay when he closes.  A connection that may write creates them as well, and
# takes them away again, even if it only reads (PRAGMA query_only).  So of two readers it is the one who
# promises not to write who writes, and that a log is there says nothing; only that none is there does.
# With immutable=1 nothing is created; then a log would not be read either.
#
# usage: reader-leaves-a-log.sh [PYTHON]          default: python3
set -eu
python=${1:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m pip install -qq --disable-pip-version-check --no-deps --target "$folder/packages" apsw==3.54.1.0
cat > "$folder/seen.py" <<'PROGRAM'
import sys
from pathlib import Path

import apsw

database = Path(sys.argv[1]) / "database"
print(f"SQLite {apsw.sqlite_lib_version()}, apsw {apsw.apsw_version()}")


def beside():
    """What lies beside the database, by how it ends."""
    return sorted(path.name.removeprefix("database") for path in database.parent.glob("database?*"))


def reads(how, *first):
    """Opens, reads, closes.  Returns: what is there meanwhile, and what is left."""
    flags = apsw.SQLITE_OPEN_URI
    flags |= apsw.SQLITE_OPEN_READONLY if "mode=ro" in how else apsw.SQLITE_OPEN_READWRITE
    connection = apsw.Connection(f"file:{database}{how}", flags=flags)
    for statement in (*first, "SELECT * FROM numbers"):
        rows = connection.execute(statement).fetchall()
    assert rows == [(7,)]
    meanwhile = beside()
    connection.close()
    print(f"  {how or 'read-write':24} {' '.join(first):22} meanwhile {meanwhile}, left {beside()}")
    return meanwhile, beside()


connection = apsw.Connection(str(database))
for statement in ("PRAGMA journal_mode = WAL", "CREATE TABLE numbers (n)", "INSERT INTO numbers VALUES (7)"):
    connection.execute(statement).fetchall()
connection.close()
both = ["-shm", "-wal"]
assert beside() == [], "the last writer leaves a log now"
assert reads("?mode=ro&immutable=1") == ([], [])
assert reads("", "PRAGMA query_only = 1") == (both, [])
assert reads("?mode=ro") == (both, both), "a reader cleans up now"
assert [(database.parent / f"database{end}").stat().st_size for end in both] == [32768, 0]
assert reads("") == (both, [])
PROGRAM
PYTHONPATH=$folder/packages "$python" "$folder/seen.py" "$folder"
echo "as described"

#!/bin/sh
# A tab, then eight spaces: every Python 3 answers TabError and reads no further.  Do the tools that read
# Python for a living notice?
#
# Guess: mypy, a Python program, finds nothing right that the Python under it cannot read; and of two
# independent checkers, mypy and ruff, at least one sees it.
# Seen, mypy 2.4.1 and ruff 0.17.6, CPython 3.11.7 and 3.13.0 (3.14.10 refuses the file too): "Success: no
# issues found", "All checks passed!", and `ruff format` makes a valid file of it without a word.  Since
# version 2, mypy no longer reads with the interpreter's parser but with ast-serialize, and that is
# ruff's: they are one reader, for which a tab is two columns.  mypy --no-native-parser, and so mypy 1,
# refuses the file.  On Python 3.11 both also pass format specifications that nest too deeply for it,
# told to check for 3.11, where both do know that `type X = int` came later.  To have files read by
# Python, compile them (python -m compileall) with the oldest that counts.
#
# usage: checked-but-unreadable.sh [PYTHON]        default: python3
set -eu
python=${1:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m pip install -qq --disable-pip-version-check --no-deps --target "$folder/packages" \
    mypy==2.4.1 ruff==0.17.6 ast-serialize==0.13.1 librt==0.16.0 mypy-extensions==1.1.0 \
    pathspec==1.1.1 typing-extensions==4.16.0
cat > "$folder/seen.py" <<'PROGRAM'
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

folder = Path(sys.argv[1])
plain = os.environ | {"NO_COLOR": "1"}
ruff = [folder / "packages/bin/ruff"]
mypy = [sys.executable, "-m", "mypy", "--no-incremental", "--python-version", "3.11"]
print(*(f"{name} {version(name)}," for name in ("mypy", "ruff", "ast-serialize")), "CPython", sys.version.split()[0])

FILES = {
    "later": "type X = int\n",
    "tabs": "def f(x: int) -> int:\n\tif x:\n        return 1\n\treturn 0\n",
    "nested": 'def f(x: float, width: int, digits: int) -> str:\n    return f"{x:{width:{digits}}}"\n',
}


def passes(command, *more):
    """What it says first, if it is content; None if it is not."""
    done = subprocess.run([*command, *more], cwd=folder, capture_output=True, text=True, env=plain)
    assert done.returncode in (0, 1, 2) and "INTERNAL" not in done.stderr, done
    print(f"    {' '.join(['mypy' if command is mypy else 'ruff', *more])}: {done.stdout.splitlines()[0]}")
    return done.returncode == 0


def compiles(name):
    try:
        compile(Path(folder / name).read_text(), name, "exec")
    except SyntaxError as error:
        print(f"    Python: {type(error).__name__}: {error.msg}")
        return False
    return True


for name, text in FILES.items():
    print(f"  {name}: {text!r}")
    name += ".py"
    (folder / name).write_text(text)
    read = compiles(name)
    native = passes(mypy, "--strict", name)
    checked = passes(ruff, "check", "--isolated", "--target-version", "py311", name)
    own = passes(mypy, "--strict", "--no-native-parser", name)
    if name == "later.py":
        assert (native, checked) == (False, False)
    elif name == "tabs.py":
        assert not read and not own, "Python reads it"
        assert native, "mypy sees it"
        assert checked, "ruff sees it"
        assert subprocess.run([*ruff, "format", "-q", "--isolated", name], cwd=folder).returncode == 0
        assert compiles(name)
    else:
        assert read == own == (sys.version_info >= (3, 12))
        assert native, "mypy sees it"
        assert checked, "ruff sees it"
PROGRAM
PYTHONPATH=$folder/packages "$python" "$folder/seen.py" "$folder"
echo "as described"

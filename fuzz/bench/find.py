"""Does this fuzzer find bugs sooner than what one would use else?  `python -m fuzz.bench find`.

See `fuzz.contest`.  The default is a sample of the museum and some mutants, ten seeds, about an
hour on two cores; `--full` is all of the museum, 40 mutants and a minute a trial.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from engine.base.geometry import UnknownName
from fuzz.campaign.child import RunError, check_environment
from fuzz.contest.bugs import bug_named, museum, mutants
from fuzz.contest.table import Table, TableError
from fuzz.contest.trial import CONTESTANTS, Task
from fuzz.contest.trials import play
from fuzz.lib.arguments import positive
from fuzz.lib.exits import BAD_INPUT, FINE, INTERRUPTED, OUR_DEFECT
from fuzz.lib.files import WriteError
from fuzz.lib.lines import columns
from fuzz.lib.lock import Lock, Locked
from fuzz.lib.processes import cores

LOCK = "find.lock"  # file in the working directory
_SAMPLE, _MUTANTS, _SECONDS = 6, 4, 5  # every so many exhibits
_FULL_MUTANTS, _FULL_SECONDS = 40, 60


def add_find(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """The options of `find`."""
    sub = commands.add_parser("find", help="bugs found, and how soon, beside other ways to look")
    sub.set_defaults(command=find)
    sub.add_argument("--full", action="store_true", help="all bugs, a minute each: for a weekend")
    sub.add_argument("--bugs", help="these, by name: exhibits of the museum, ids of mutants")
    sub.add_argument("--contestants", help=f"some of {','.join(CONTESTANTS)}")
    sub.add_argument("--seeds", type=positive, default=10, help="1 to so many (%(default)s)")
    sub.add_argument("--time", type=positive, help=f"CPU seconds of a trial ({_SECONDS})")
    sub.add_argument("--jobs", type=positive, default=cores(), help="trials at a time")
    sub.add_argument(
        "--workdir", type=Path, default=Path(".pmdfuzz/contest"), help="default: %(default)s"
    )
    sub.add_argument("--fresh", action="store_true", help="forget earlier results")


def find(options: argparse.Namespace) -> int:
    """Have all trials played, and print what they come to."""
    workdir: Path = options.workdir
    try:
        check_environment()
        if sys.version_info < (3, 12):
            raise RunError("whether a bug is reached is seen by sys.monitoring, of Python 3.12")
        contestants, bugs = _named(options.contestants, CONTESTANTS), _bugs(options)
        workdir.mkdir(parents=True, exist_ok=True)
        with Lock(workdir / LOCK):
            return _compare(options, contestants, bugs)
    except ImportError as error:
        why = f"{error}; install pmdfuzz[bench]"
    except Locked as error:
        why = (
            f"{workdir}: others compare there ({error.who or 'another process'}); wait for them or "
            "end them, or name another directory with --workdir"
        )
    except OSError as error:
        why = f"{workdir}: cannot write: {error.strerror or error}"
    except (RunError, TableError, UnknownName, WriteError) as error:
        why = str(error)
    print(f"fuzz.bench find: {why}", file=sys.stderr)
    return BAD_INPUT


def _compare(options: argparse.Namespace, contestants: Sequence[str], bugs: Sequence[str]) -> int:
    """The same, alone in the directory.

    Errors raised: ImportError, TableError, WriteError, OSError.
    """
    # Beside the rest, as only who compares needs them.
    from fuzz.contest.figures import tables
    from fuzz.contest.page import draw

    table = Table(options.workdir, fresh=options.fresh)
    if table.notice:
        print(table.notice)
    seconds = float(options.time or (_FULL_SECONDS if options.full else _SECONDS))
    tasks = [
        Task(contestant, bug, seed, seconds)
        for seed in range(1, options.seeds + 1)
        for bug in bugs
        for contestant in contestants
    ]
    try:
        status = OUR_DEFECT if play(tasks, table, options.jobs) else FINE
    except KeyboardInterrupt:
        status = INTERRUPTED
    rows = [(task, played) for task in tasks if (played := table.get(task)) is not None]
    if rows:
        for lines in tables(rows, CONTESTANTS):
            print()
            print("\n".join(columns(lines)))
        page = options.workdir / "page.svg"
        draw(rows, CONTESTANTS, page)
        print(f"\nRaw table: {table.path}\nPlots: {page}")
    if left := len(tasks) - len(rows):
        print(f"{left} of {len(tasks)} trials are left: the same command goes on.")
    return status


def _bugs(options: argparse.Namespace) -> tuple[str, ...]:
    """The bugs to look for.  Errors raised: UnknownName."""
    if options.bugs:
        names = tuple(options.bugs.split(","))
        for name in names:
            bug_named(name)
        return names
    if options.full:
        return (*museum(), *mutants(_FULL_MUTANTS))
    return (*museum()[::_SAMPLE], *mutants(_MUTANTS))


def _named(words: str | None, known: "dict[str, str]") -> tuple[str, ...]:
    """Those asked for, in the order of all.  Errors raised: RunError."""
    asked = words.split(",") if words else list(known)
    if unknown := set(asked) - set(known):
        raise RunError(f"--contestants: unknown {', '.join(sorted(unknown))}; {', '.join(known)}")
    return tuple(name for name in known if name in asked)

"""Mutation testing: what is changed, how it is judged in forked processes, what is kept."""

import ast
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fuzz.lib.processes import forked
from fuzz.mutants.__main__ import MODULES, REASONS
from fuzz.mutants.hook import import_mutant
from fuzz.mutants.inputs import GROUNDS, chunks, news
from fuzz.mutants.judge import Fate
from fuzz.mutants.mutate import Mutant, mutants_of, source_path
from fuzz.mutants.reasons import Reason, ReasonError, load, reason_for, stale
from fuzz.mutants.report import Row, table
from fuzz.mutants.store import Store
from tests.lib.constants import ROOT

TINY = b'''"""Not this."""

LIMIT = 3


def clipped(a: int, b: int = 0) -> int:
    """Nor this."""
    assert a != 7
    if a < b and not a & 1:
        a += 2
    elif (a or
            b):
        return max(a, b)
    announce("nor this", 9)
    return a
'''


def changes(source: bytes) -> list[tuple[str, str, str]]:
    return [(m.operator, m.was, m.now) for m in mutants_of(source, "tiny")]


def test_what_is_changed() -> None:
    condition = "if a < b and (not a & 1):"
    assert changes(TINY) == [
        ("constant", "LIMIT = 3", "LIMIT = 4"),
        ("constant", "LIMIT = 3", "LIMIT = 2"),
        (
            "constant",
            "def clipped(a: int, b: int=0) -> int:",
            "def clipped(a: int, b: int=1) -> int:",
        ),
        ("comparison", condition, "if a <= b and (not a & 1):"),
        ("comparison", condition, "if a >= b and (not a & 1):"),
        ("condition", condition, "if True:"),
        ("condition", condition, "if False:"),
        ("logic", condition, "if a < b or not a & 1:"),
        ("operand", condition, "if not a & 1:"),
        ("operand", condition, "if a < b:"),
        ("unary", condition, "if a < b and a & 1:"),
        ("arithmetic", condition, "if a < b and (not a | 1):"),
        ("constant", condition, "if a < b and (not a & 2):"),
        ("constant", condition, "if a < b and (not a & 0):"),
        ("statement", "a += 2", "pass"),
        ("arithmetic", "a += 2", "a -= 2"),
        ("constant", "a += 2", "a += 3"),
        ("constant", "a += 2", "a += 1"),
        ("condition", "if a or b:", "if True:"),
        ("condition", "if a or b:", "if False:"),
        ("logic", "if a or b:", "if a and b:"),
        ("operand", "if a or b:", "if b:"),
        ("operand", "if a or b:", "if a:"),
        ("return", "return max(a, b)", "return None"),
        ("twin", "return max(a, b)", "return min(a, b)"),
        ("return", "return a", "return None"),
    ]


def test_a_mutant_is_the_source_with_one_statement_changed() -> None:
    whole = ast.unparse(ast.parse(TINY))
    for mutant in mutants_of(TINY, "tiny"):
        mutated = ast.unparse(ast.parse(mutant.apply(TINY)))
        assert mutated != whole
        now = mutant.now if mutant.now != "pass" else None
        assert now is None or now.removeprefix("el") in mutated


def test_ids_do_not_depend_on_what_is_elsewhere() -> None:
    ids = [m.id for m in mutants_of(TINY, "tiny")]
    assert len(set(ids)) == len(ids)
    other = TINY.replace(b"LIMIT = 3\n", b"# A comment: \xc3\x97.\n\nLIMIT = 3\nMORE = 'text'\n")
    assert [m.id for m in mutants_of(other, "tiny")] == ids


def test_changes_that_read_alike_are_counted() -> None:
    source = b"def f(a):\n    a.b()\n    a.b()\n"
    one, two = mutants_of(source, "tiny")
    assert (one.nth, two.nth) == (1, 2) and one.id != two.id
    assert one.apply(source) == b"def f(a):\n    pass\n    a.b()\n"
    assert two.apply(source) == b"def f(a):\n    a.b()\n    pass\n"


def test_lines_are_those_of_the_statement_inside_a_function() -> None:
    lines = {m.was: m.lines for m in mutants_of(TINY, "tiny")}
    assert lines["LIMIT = 3"] is None
    assert lines["def clipped(a: int, b: int=0) -> int:"] is None
    assert lines["a += 2"] == (10, 10)
    assert lines["if a or b:"] == (11, 12)


def test_a_diff_is_a_patch(tmp_path: Path) -> None:
    (tmp_path / "engine").mkdir()
    path = tmp_path / "engine" / "tiny.py"
    for mutant in mutants_of(TINY, "engine.tiny")[:5]:
        path.write_bytes(TINY)
        subprocess.run(
            ["patch", "-p1", "-s"], input=mutant.diff(TINY).encode(), cwd=tmp_path, check=True
        )
        assert path.read_bytes() == mutant.apply(TINY)


@pytest.mark.slow
def test_the_engine_can_be_mutated() -> None:
    for name in MODULES:
        source = source_path(ROOT, name).read_bytes()
        mutants = mutants_of(source, name)
        assert len(mutants) > 30
        for mutant in mutants[::7]:
            compile(mutant.apply(source), name, "exec")


def test_each_reason_speaks_of_a_mutant() -> None:
    """What has changed since is no longer explained."""
    found = {
        (m.module, m.function, m.was, m.now)
        for name in MODULES
        for m in mutants_of(source_path(ROOT, name).read_bytes(), name)
    }
    reasons = load(ROOT / REASONS)
    assert not [r for r in reasons if (r.module, r.function, r.was, r.now) not in found]


# --- in place of the file -------------------------------------------------------------------------


def test_a_mutant_is_imported_in_place_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mutated_tiny.py"
    path.write_text("def number():\n    return 1\n")
    mutants = mutants_of(path.read_bytes(), "mutated_tiny")

    def work(mutant: Mutant | None) -> object:
        sys.path.insert(0, str(tmp_path))
        sys.dont_write_bytecode = True
        if mutant is not None:
            import_mutant(tmp_path, mutant)
        import mutated_tiny  # type: ignore[import-not-found]

        return mutated_tiny.number()

    tasks = [None, *mutants]
    ended = {one.task: one.result for one in forked(tasks, work, jobs=1, seconds=60)}
    assert ended[None] == 1
    assert [ended[mutant] for mutant in mutants] == [2, 0]
    assert path.read_text() == "def number():\n    return 1\n"


# --- what is kept, and said -----------------------------------------------------------------------


def test_results_are_kept_for_the_same_tree(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    killed, survivor, *_ = mutants_of(TINY, "tiny")
    store = Store(path, "tree", "tests")
    store.put(killed, Fate("rule", "page-index", 3, 2, None))
    store.put(survivor, Fate("", "", 9, None, 4))
    store.put_tests(survivor, "test_x")
    store.flush()

    again = Store(path, "tree", "tests")
    assert again.fate(killed) == Fate("rule", "page-index", 3, 2, None)
    assert again.fate(survivor) == Fate("", "", 9, None, 4)
    assert again.tests(survivor) == "test_x"
    assert again.tests(killed) is None
    again.forget(killed)
    assert again.fate(killed) is None

    other = Store(path, "other tree", "other tests")
    assert other.fate(killed) is None and other.tests(survivor) is None
    kept = Store(path, "other tree", "other tests", keep_kills=True)
    assert kept.fate(killed) is not None and kept.fate(survivor) is None
    assert kept.tests(survivor) is not None


def test_a_store_that_cannot_be_read_starts_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"half')
    assert Store(path, "", "").fate(mutants_of(TINY, "tiny")[0]) is None
    assert "starting over" in capsys.readouterr().err


REASON = """
[[survivor]]
module = "tiny"
function = "clipped"
was = "a += 2"
now = "pass"
kind = "equivalent"
reason = "it is never read"
"""


def test_reasons_fit_by_text(tmp_path: Path) -> None:
    path = tmp_path / "mutants.toml"
    path.write_text(REASON)
    (reason,) = load(path)
    mutants = mutants_of(TINY, "tiny")
    (fitting,) = (m for m in mutants if reason_for(m, [reason]))
    assert (fitting.was, fitting.now) == ("a += 2", "pass")
    assert stale([reason], mutants) == []
    assert stale([reason], [m for m in mutants if m is not fitting]) == [reason]
    assert load(tmp_path / "none.toml") == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[[survivor]]\nmodule = 1", "missing"),
        (REASON + "line = 3", "unknown .*line"),
        (REASON.replace("equivalent", "dunno"), "dunno"),
        ("[[", "mutants.toml"),
    ],
)
def test_a_wrong_file_of_reasons_is_refused(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "mutants.toml"
    path.write_text(text)
    with pytest.raises(ReasonError, match=why):
        load(path)


def test_the_committed_reasons_can_be_read() -> None:
    for reason in load(ROOT / "tests" / "mutants.toml"):
        assert (ROOT / f"{reason.module.replace('.', '/')}.py").is_file()
        assert reason.was != reason.now


def test_the_score_leaves_out_what_cannot_be_killed() -> None:
    mutants = mutants_of(TINY, "engine.tiny")[:6]
    killed, alive = Fate("oracle", "x", 1, 0, None), Fate("", "", 5, None, None)
    differs = alive._replace(differs=3)
    unreached = alive._replace(runs=0)
    reason = Reason("engine.tiny", "", "", "", "equivalent", "")
    accepted = Reason("engine.tiny", "", "", "", "accepted", "")
    rows = [
        Row(mutants[0], killed, None, None),
        Row(mutants[1], killed, None, None),
        Row(mutants[2], differs, "test_x", accepted),
        Row(mutants[3], alive, "", reason),
        Row(mutants[4], unreached, None, None),
        Row(mutants[5], None, None, None),
    ]
    line = next(line for line in table(rows) if line.startswith("tiny.py"))
    assert line.split() == [
        *("tiny.py", "5", "of", "6", "2", "+1", "1", "1", "1"),
        *("2", "of", "3", "50.0%"),
    ]


def test_only_new_violations_kill() -> None:
    known = frozenset({(2, "a")})
    assert news(known, known) is None
    assert news(known, frozenset()) is None
    assert news(known, frozenset({(2, "a"), (5, "a")})) is None  # a trace of the one before
    assert news(known, frozenset({(1, "a"), (2, "a")})) == "a"
    assert news(known, frozenset({(2, "a"), (3, "b")})) == "b"


def test_inputs_are_spread_over_the_grounds() -> None:
    parts = chunks(100, 1)
    assert parts[0].ground is None
    assert sum(part.size for part in parts) == 100
    assert {part.ground for part in parts[1:]} == set(GROUNDS)


# --- all of it, on a copy of the tree -------------------------------------------------------------

UNUSED = "\n\ndef unused(number: int) -> int:\n    return number + 1\n"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The project with one case, and a function in engine/stack.py that nothing calls."""
    for folder in ("engine", "fuzz"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    (tmp_path / "corpus").mkdir()
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "corpus" / "seeds" / "stack-small-shift.case", tmp_path / "corpus")
    stack = tmp_path / "engine" / "stack.py"
    stack.write_text(stack.read_text() + UNUSED)
    return tmp_path


def command(tree: Path, *arguments: str) -> list[str]:
    return [
        *(sys.executable, "-m", "fuzz.mutants", "--root", str(tree), "--jobs", "2"),
        *("--file", "stack", "--inputs", "4", "--tests", "none", *arguments),
    ]


def run(tree: Path, *arguments: str) -> str:
    done = subprocess.run(
        command(tree, *arguments), cwd=tree, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_mutants_are_judged_kept_and_explained(tree: Path) -> None:
    source = (tree / "engine" / "stack.py").read_bytes()
    mutants = mutants_of(source, "engine.stack")
    unused = [m for m in mutants if m.function == "unused"]
    (moved,) = (
        m
        for m in mutants
        if m.function == "relocate_vma_down"
        and m.was == "vmas.resize(vma, new_start, new_end)"
        and m.now == "pass"
    )
    names = [m.id for m in (*unused, moved)]
    told = run(tree, *(part for name in names for part in ("--only", name)))
    assert "killed by rule 1," in told or "oracle 1," in told
    assert told.count("unreached\n") == len(unused)

    shown = run(tree, "--show", moved.id)
    assert "-    vmas.resize(vma, new_start, new_end)" in shown
    assert "# killed: " in shown and "execve_stack(" in shown
    assert "#   --- engine\n#   +++ mutant" in shown and "AssertionError" not in shown

    (tree / "tests" / "mutants.toml").write_text(
        REASON.replace("tiny", "engine.stack").replace("a += 2", unused[0].was)
    )
    told = run(tree, "--only", unused[0].id)
    assert "1 of 1" not in told  # another change than the one that is explained


@pytest.mark.slow
def test_what_was_interrupted_goes_on_where_it_was(tree: Path) -> None:
    results = tree / ".mutants" / "results.json"
    few = ("--every", "9")
    process = subprocess.Popen(
        command(tree, *few),
        cwd=tree,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Jobs in the background of a script ignore Ctrl-C, and so do the processes they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        while not results.exists() and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert " of " in out and "goes on from here" in err
    kept = results.read_text().count('"rules"')
    assert kept > 0

    again = subprocess.run(
        command(tree, *few), cwd=tree, capture_output=True, text=True, timeout=300, check=True
    )
    total = results.read_text().count('"rules"')
    assert kept < total
    assert f"{kept} of {total} mutants are judged already" in again.stderr
    assert again.stdout == (tree / ".mutants" / "report.txt").read_text()

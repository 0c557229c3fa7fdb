"""Working directories with something in them, as runs leave them behind."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fuzz.case import Case
from fuzz.findings.bucket import Bucket
from fuzz.findings.cases import CaseStore
from fuzz.findings.history import About, Standing
from fuzz.findings.ledger import Ledger
from fuzz.forms.text import dump, load, parse
from tests.lib.clock import Clock
from tests.lib.constants import ROOT

BEGAN = 1.8e9  # seconds since 1970
KNOWN = Bucket("dest-entry-none", "execve_stack", "B-01")
UNKNOWN = Bucket("others-untouched", "mremap")
STACK = parse("@kernel linux-6.1\nexecve_stack(0x300000, 0x700000, 0x200000)\n")
# What is text in a page, and would else be markup, end a script or a picture, or turn lines round.
HOSTILE = (
    "<script>document.title = 'run'</script>",
    "</svg></style></pre><img src=x onerror=\"document.title = 'run'\">",
    "{{ 7 * 7 }} {% raw %} &lt; \" ' `",
    "\u202egnp.exe \u2066hidden\u2069 \x01 \x1b[31m \u200b",
    "long and " * 7_200 + "on",  # nearly as long as a file may be
)
ABOUT = About("2027-01-15T08:00:00 seed 5", ("linux-6.1", "linux-7.3"), ("x86-64",), "p")


def regression(name: str) -> Case:
    """A case of the corpus."""
    return load(ROOT / "corpus" / f"{name}.case")


def stock(
    workdir: Path, cases: dict[Bucket, Case], *, minutes: int = 0, kernels: Sequence[str] = ()
) -> Path:
    """A working directory with these findings, met by one run of so many minutes."""
    clock = Clock(BEGAN)
    with Ledger.open(workdir, clock) as ledger:
        ledger.history.begin(ABOUT)
        store = CaseStore(workdir)
        for bucket, case in cases.items():
            store.save(bucket, case)
            for kernel in kernels or [case.kernel or "linux-6.1"]:
                ledger.record(bucket, kernel, run_id=ABOUT.name, executions=7, count=3)
        for minute in range(1, minutes + 1):
            clock.now = BEGAN + 60 * minute
            standing = Standing(60.0 * minute, 5000 * minute, 90.0, 10 * minute, 40 * minute, 1, 1)
            ledger.history.tell(standing, now=True)
        ledger.history.end(0)
    return workdir


def hostile(case: Case) -> Case:
    """The case with comments that are no markup; such characters as a file can hold."""
    return replace(case, comments=HOSTILE)


def write_raw(workdir: Path, name: str, case: Case) -> None:
    """Put a case there under a name that is none of ours."""
    (workdir / "findings").mkdir(parents=True, exist_ok=True)
    (workdir / "findings" / f"{name}.case").write_text(dump(case))

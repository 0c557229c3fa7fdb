"""Exported programs: they build without a warning, run, and end in the right words."""

import platform
import shlex
import subprocess
from pathlib import Path

import pytest

from fuzz.case import Case
from fuzz.export.check import COLUMNS
from fuzz.export.program import KSELFTEST, LOW_ARENA, PLAIN, ExportError, Form, as_c
from fuzz.forms.text import load, parse
from tests.lib.compilers import built, compiler
from tests.lib.constants import ROOT

REGRESSIONS = ROOT / "corpus/regressions"


def exported(case: Case | str, kernel: str | None = None) -> str:
    if isinstance(case, str):
        case = load(REGRESSIONS / f"{case}.case")
    return as_c(case, "case", kernel, "pmdfuzz export case --as c")


def told(source: str) -> str:
    """The comment at its head, in one line."""
    return " ".join(source.partition("*/")[0].replace("\n *", " ").split())


def run(program: Path) -> tuple[int, list[str]]:
    done = subprocess.run([program], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.splitlines()


needs_linux = pytest.mark.skipif(platform.system() != "Linux", reason="programs for Linux")


@needs_linux
def test_a_program_shows_the_defect(tmp_path: Path) -> None:
    """Every kernel has this one, whatever it is that runs the tests."""
    status, lines = run(built(exported("wrapping-overlap"), tmp_path, compiler("cc")))
    assert status in (1, 4), lines
    assert lines[-1] == "shows the defect" or lines[-1].startswith("skipped: "), lines


SERIES = ".".join(platform.release().split(".")[:2])
ODD = parse("munmap(0x10000, 0x1000)\nmunmap(0x10001, 0x1000)\n")


def made_for(release: str) -> str:
    """A program for a kernel of a release, which expects another error than any kernel returns."""
    return (
        exported(ODD)
        .replace("-EINVAL", "-EPERM")
        .replace('#define RELEASE "6.18"', f'#define RELEASE "{release}"')
    )


@needs_linux
def test_what_should_be_is_told_where_it_is_not(tmp_path: Path) -> None:
    status, lines = run(built(made_for(SERIES), tmp_path, compiler("cc")))
    told = "sys_munmap(AT(0x10001), 0x1000) = -22 (Invalid argument)"
    assert f"{told}, expected -1 (Operation not permitted)" in lines
    assert (status, lines[-1]) == (1, "does something else than linux-6.18")


@needs_linux
def test_what_another_release_does_otherwise_is_no_news(tmp_path: Path) -> None:
    another = SERIES[:-1]  # 6.18 is not of the series 6.1
    status, lines = run(built(made_for(another), tmp_path, compiler("cc")))
    assert status == 4
    assert lines[-1] == (
        f"skipped: made for linux-6.18; Linux {platform.release()} does something else than was "
        "expected above"
    )


def test_helpers_fit_into_a_mail() -> None:
    for path in (ROOT / "fuzz/export/parts").glob("*.c"):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            assert len(line.expandtabs(8)) <= COLUMNS, f"{path.name}:{number}"


@needs_linux
def test_what_lies_in_the_way_of_the_calls_is_told(tmp_path: Path) -> None:
    here = "sys_mmap(AT(0), PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);"
    source = exported("wrapping-overlap").replace("introduce();", f"{here}\n\tintroduce();", 1)
    status, lines = run(built(source, tmp_path, compiler("cc")))
    assert (status, lines[-1]) == (
        4,
        "skipped: the program itself lies in the way: build it with -static -no-pie",
    )


@pytest.mark.parametrize(
    ("line", "wide"),
    [
        ("munmap(0x10000, 0x1000)", False),
        ("munmap(0x10000, 0x100001000)", True),
        ("munmap(0x100000000, 0x1000)", True),
        ("@limit map_count 100\nmunmap(0x10000, 0x1000)", True),
    ],
)
def test_what_32_bits_do_not_have_is_not_tried_there(line: str, wide: bool) -> None:
    assert ("need_64_bits();" in exported(parse(f"{line}\n"))) == wide


def test_no_helper_is_dead() -> None:
    source = exported(parse("munmap(0x10000, 0x1000)\n"))
    assert "sys_munmap" in source
    for name in ("sys_mmap", "touch", "pagemap", "userfaultfd", "DECIDE"):
        assert name not in source


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("touch_on(0, 0x10000)", "touch_on: nobody can read what the TLB"),
        ("@fail vma 1", "@fail vma: a single attempt"),
        ("@limit commit 4096", "@limit commit: vm.overcommit_memory 2"),
        ("@at leave 1: touch(0x20000, 0x1000)", "@at touch: when others come in between"),
    ],
)
def test_what_no_program_can_do_is_refused_with_the_reason(line: str, why: str) -> None:
    with pytest.raises(ExportError, match=why):
        exported(parse(f"{line}\nmunmap(0x10000, 0x1000)\n"))


def test_what_may_crash_a_kernel_is_made_with_a_warning_and_only_if_that_is_wanted() -> None:
    case = load(ROOT / "corpus/museum/b-45-hugetlb-skip.case")
    with pytest.raises(ExportError, match="may crash or hang of it: B-45, hugetlb"):
        exported(case)
    source = as_c(case, "case", None, "pmdfuzz", even_if_it_crashes=True)
    assert "WARNING: a kernel may crash or hang of this program. B-45" in told(source)


def test_guards_on_what_is_watched_may_have_no_end() -> None:
    """In which order is not looked at: in this one it ends."""
    case = parse(
        "mmap(0x10000, 0x1000, PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED)\n"
        "madvise(0x10000, 0x1000, MADV_GUARD_INSTALL)\n"
        "uffd_register(0x10000, 0x1000, UFFDIO_REGISTER_MODE_WP)\n"
        "uffd_wp(0x10000, 0x1000, 1)\n"
    )
    with pytest.raises(ExportError, match="may not end"):
        exported(case)
    assert "WARNING" not in exported(case.with_calls(case.calls[:3]))


def test_what_a_kernel_does_not_return_from_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    case = load(REGRESSIONS / "dontunmap-unlocks-the-rest.case")
    assert "WARNING" not in exported(case)
    monkeypatch.setattr("engine.mremap._waits_for_itself", lambda *_: True)
    with pytest.raises(ExportError, match="may not return"):
        exported(case)


@pytest.mark.parametrize("form", [PLAIN, KSELFTEST], ids=["plain", "kselftest"])
def test_what_no_program_sees_is_told_and_only_that(form: Form) -> None:
    for name, seen in (("dontunmap-counts-locked-twice", True), ("thread-below-both", False)):
        case = load(REGRESSIONS / f"{name}.case")
        head = told(as_c(case, name, None, "pmdfuzz", form))
        assert ("NOT SEEN" in head) is not seen, name
        assert (f"TEST_GEN_FILES += {name}" in head) is (form is KSELFTEST)


def test_marks_of_the_model_are_nothing_to_others() -> None:
    case = parse("# what it is\n# mark: vm-lock\n# about, mark: or not\nmunmap(0x10000, 0x1000)\n")
    assert "what it is about, mark: or not" in told(exported(case))


def test_what_is_lost_for_good_is_told_at_the_head() -> None:
    leaks = exported("shrinking-move-leaks-commit")
    assert "stays lost until it is booted again" in told(leaks)
    assert "stays lost" not in exported("dontunmap-counts-locked-twice")


def test_how_it_is_built_can_be_handed_to_a_shell() -> None:
    name = "hint-below-the-lowest-address"
    source = as_c(load(REGRESSIONS / f"{name}.case"), name, "linux-6.18", "pmdfuzz export")
    head = source.partition("*/")[0].replace("\n * ", "\n")
    command = head.partition("Build: ")[2].partition("\nRun:")[0]
    assert " \\\n" in command
    assert shlex.split(command.replace("\\\n", "")) == [
        *("cc", "-O2", "-m32", *LOW_ARENA.split()),
        *("-o", name, f"{name}.c"),
    ]


@needs_linux
def test_a_monitor_ends_with_a_program_that_ended_before_it_began(tmp_path: Path) -> None:
    source = exported(parse("uffd_register(0x10000, 0x1000, UFFDIO_REGISTER_MODE_WP)\n"))
    for before, after in (
        ("\t\tend_with(self);", "\t\tusleep(200000);\n\t\tend_with(self);"),
        ("\tbegin_monitor();", "\tbegin_monitor();\n\treturn 0;"),
    ):
        assert before in source
        source = source.replace(before, after, 1)
    program = built(source, tmp_path, compiler("cc"))
    run(program)  # which waits until nobody has its output open


@needs_linux
def test_files_are_made_and_mapped(tmp_path: Path) -> None:
    case = parse(
        "file(A, 0x3000) = 0\n"
        "mmap(0x10000, 0x3000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED, A) = 0x10000\n"
        "touch(0x10000, 0x1000) = 0\n"
        "fallocate(A, FALLOC_FL_KEEP_SIZE|FALLOC_FL_PUNCH_HOLE, 0x0, 0x1000) = 0\n"
        "ftruncate(A, 0x2000) = 0\n"
        "peek(0x10000, 0x3000) = BUS[0x12000, 0x13000)\n"
    )
    status, lines = run(built(exported(case), tmp_path, compiler("cc")))
    assert (status, lines[-1]) == (0, "does what linux-6.18 does"), lines

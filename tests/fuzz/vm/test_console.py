"""What a console says: reports are found, whole, and called the same whenever they come again."""

import pytest

from fuzz.vm.console import reports

WARNING = """\
[    5.101010] init: case 41
[    5.123456] ------------[ cut here ]------------
[    5.123460] WARNING: CPU: 0 PID: 97 at mm/mremap.c:257 move_page_tables+0x5a1/0x700
[    5.123470] Modules linked in: brd
[    5.123480] Call Trace:
[    5.123490]  <TASK>
[    5.123500]  ? move_vma+0x11a/0x540
[    5.123510]  __do_sys_mremap+0x2f1/0x4f0
[    5.123520]  do_syscall_64+0x55/0xb0
[    5.123530] ---[ end trace 0000000000000000 ]---
[    5.123540] init: case 42
"""
PANIC = """\
[   11.000001] sysrq: Trigger a crash\r
[   11.000002] BUG: kernel NULL pointer dereference, address: 0000000000000000\r
[   11.000003] #PF: supervisor write access in kernel mode\r
[   11.000004] Oops: 0002 [#1] PREEMPT SMP NOPTI\r
[   11.000005] ---[ end trace 0000000000000000 ]---\r
[   11.000006] Kernel panic - not syncing: Fatal exception\r
[   11.000007] Kernel Offset: disabled\r
[   11.000008] ---[ end Kernel panic - not syncing: Fatal exception ]---\r
"""


def test_a_warning_is_found_whole() -> None:
    (report,) = reports(WARNING)
    assert report.kind == "warning"
    assert report.what == "WARNING in move_page_tables"
    assert report.syscall == "mremap"
    assert report.lines[0] == "------------[ cut here ]------------"
    assert report.lines[-1] == "---[ end trace 0000000000000000 ]---"


def test_an_oops_that_ends_in_a_panic_is_one_report() -> None:
    (report,) = reports(PANIC)
    assert report.kind == "panic"
    assert report.lines[-1].startswith("---[ end Kernel panic")
    assert report.syscall is None


def test_lines_are_fit_to_be_kept() -> None:
    (report,) = reports("[    1.0] WARNING: at a  \r\n\r\n[    1.0] CPU: 0 \x1b[0m \r\n \n")
    assert report.lines == ("WARNING: at a", "CPU: 0 ?[0m")


def test_two_in_a_row_are_two() -> None:
    assert [report.kind for report in reports(WARNING + PANIC)] == ["warning", "panic"]


@pytest.mark.parametrize(
    ("line", "kind", "what"),
    [
        (
            "WARNING: mm/mremap.c:306 at move_page_tables+0x5/0x7, CPU#0: agent/97",
            "warning",
            "WARNING in move_page_tables",
        ),
        (
            "BUG: non-zero pgtables_bytes on freeing mm: 4096",
            "bug",
            "BUG: non-zero pgtables_bytes on freeing mm",
        ),
        ("BUG: Bad page state in process agent  pfn:12345", "bug", "BUG: Bad page state"),
        (
            "BUG: Bad rss-counter state mm:00000000a1b2c3d4 type:MM_ANONPAGES val:1",
            "bug",
            "BUG: Bad rss-counter state",
        ),
        (
            "BUG: unable to handle page fault for address: ffffc90000000000",
            "oops",
            "BUG: unable to handle page fault",
        ),
        ("Unable to handle kernel NULL pointer dereference at 0", "oops", None),
        ("watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [agent:97]", "hang", None),
        ("rcu: INFO: rcu_preempt self-detected stall on CPU", "hang", None),
        ("Kernel panic - not syncing: sysrq triggered crash", "panic", None),
        ("Kernel panic - not syncing: System is deadlocked on memory", "memory", None),
        ("agent invoked oom-killer: gfp_mask=0x140cca, order=0", "memory", None),
    ],
)
def test_kinds(line: str, kind: str, what: str | None) -> None:
    (report,) = reports(f"[    1.000000] {line}\n")
    assert report.kind == kind
    assert what is None or report.what == what


def test_what_a_kernel_says_as_it_boots_is_no_report() -> None:
    text = (
        "[    0.930133] acpi PNP0A03:00: fail to add MMCONFIG information\n[    1.0] init: case 1\n"
    )
    assert list(reports(text)) == []

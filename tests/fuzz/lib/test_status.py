"""The status line: what it says, and that it stays out of the way."""

import io

import pytest

from fuzz.lib.status import PLAIN_SECONDS, Progress, StatusLine, count, duration, wants_colour
from tests.lib.clock import Clock


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock, and a terminal of 200 columns that can do everything."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Clock()


BUSY = Progress(
    seconds=187,
    execs=1_234_567,
    execs_per_second=4321,
    corpus=950,
    cells=2_000,
    findings=3,
    old=1,
    last_new=42.5,
    doing="minimizing x--y",
)


def test_numbers_are_short() -> None:
    assert [duration(s) for s in (0, 59.9, 187, 7500, 275_000)] == [
        "0s",
        "59s",
        "3m07s",
        "2h05m",
        "3d04h",
    ]
    assert [count(n) for n in (0, 950, 9_999, 12_345, 1_234_567, 5e9)] == [
        "0",
        "950",
        "9999",
        "12.3k",
        "1.23M",
        "5.00G",
    ]


def test_earlier_runs_count_as_well() -> None:
    now, *_ = (text for text, _ in Progress(execs=950).fields() if "execs" in text)
    assert now == "950 execs"
    later = Progress(execs=950, runs_before=2, execs_before=12_345)
    assert "950 of 13.3k execs" in [text for text, _ in later.fields()]


def test_elsewhere_a_plain_line_now_and_then(clock: Clock) -> None:
    stream = io.StringIO()
    line = StatusLine(stream, clock)
    line.update(BUSY)
    assert stream.getvalue() == ""
    clock.now += PLAIN_SECONDS
    line.update(BUSY)
    line.update(BUSY)
    assert stream.getvalue() == (
        "3m07s  1.23M execs  4321/s  950 corpus  2000 cells  3 findings (1 old)  "
        "last new 42s ago  minimizing x--y\n"
    )


def test_a_terminal_gets_one_line_that_other_output_does_not_hit(clock: Clock) -> None:
    stream = Terminal()
    line = StatusLine(stream, clock)
    line.update(BUSY)
    assert stream.getvalue().startswith("\r\x1b[K")
    assert "\n" not in stream.getvalue()
    assert "\x1b[1;31m3 findings (1 old)\x1b[0m" in stream.getvalue()
    line.write("something happened", stream)
    assert stream.getvalue().endswith("\r\x1b[Ksomething happened\n")
    line.update(BUSY)  # at once: the line is missing
    assert stream.getvalue().endswith("minimizing x--y")


def test_old_findings_and_known_defects_are_no_alarm(clock: Clock) -> None:
    stream = Terminal()
    StatusLine(stream, clock).update(Progress(findings=2, old=2, known=3))
    assert "2 findings (2 old)  3 known" in stream.getvalue()
    assert "\x1b[1;31m" not in stream.getvalue()


def test_a_narrow_terminal_loses_the_last_fields(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    StatusLine(stream, clock).update(BUSY)
    assert stream.getvalue() == "\r\x1b[K3m07s  1.23M execs  4321/s  950 corpus"


def test_no_color_and_dumb_terminals_are_heeded(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
    monkeypatch.setenv("NO_COLOR", "")
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())
    assert not StatusLine(Terminal(), clock).live

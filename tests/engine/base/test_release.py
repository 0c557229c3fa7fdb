"""Releases, and intervals of them: when something held, and how that is told."""

import pytest

from engine.base.release import LATEST, Interval, between, by, never, release, series, since, until


def test_a_release_without_a_point_is_the_latest_of_its_series() -> None:
    assert release("6.12").point == LATEST
    assert release("6.12.44") == ((6, 12), 44)
    assert str(release("6.12")) == "6.12"
    assert str(release("6.12.44")) == "6.12.44"
    assert release("6.9") < release("6.12.0") < release("6.12.44") < release("6.12")


@pytest.mark.parametrize("text", ["", "6", "6.", "06.1", "6.01", "6.1.2.3", "6.1-rc1", " 6.1"])
def test_what_is_no_release_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no release"):
        release(text)


def test_a_point_release_is_no_series() -> None:
    with pytest.raises(ValueError, match="not a series"):
        series("6.12.44")


INTERVALS = [
    (since("6.7"), "6.7.0 6.7 6.19 7.3", "5.0 6.6", "since 6.7"),
    (
        since("6.13", stable={"6.12": 11, "6.1": by(191)}),
        "6.12.11 6.12 6.1.191 6.1 6.13.0",
        "6.12.10 6.1.190 6.6 6.11.99",
        "since 6.13, 6.12.11, 6.1.191 at the latest",
    ),
    (
        since("7.3", stable={"7.2": by(6)}, unknown=("6.6", "5.15")),
        "7.2.6 7.3.0",
        "7.2.5 6.6 5.15",
        "since 7.3, 7.2.6 at the latest (not known of 6.6, 5.15)",
    ),
    (between("5.14", "6.8"), "5.14.0 6.8", "5.13 6.9.0", "5.14 to 6.8"),
    (
        between("6.15", "7.2", fixed={"7.2": by(13), "6.18": 50}),
        "6.15.0 6.18.49 6.19 7.2.12",
        "6.14 6.18.50 7.2.13 7.3.0",
        "6.15 to 7.2, gone in 7.2.13 at the latest, gone in 6.18.50",
    ),
    (until("5.15"), "5.0.0 5.15", "5.16.0", "until 5.15"),
    (
        between("5.7", "6.14") | since("6.18", stable={"6.17": 6}),
        "5.7 6.14 6.17.6 6.18",
        "5.6 6.15 6.16 6.17.5",
        "5.7 to 6.14; since 6.18, 6.17.6",
    ),
    (never, "", "5.0 6.18 7.3", "in no release"),
]


@pytest.mark.parametrize(("interval", "inside", "outside", "told"), INTERVALS)
def test_intervals(interval: Interval, inside: str, outside: str, told: str) -> None:
    assert [text for text in inside.split() if not interval.holds(release(text))] == []
    assert [text for text in outside.split() if interval.holds(release(text))] == []
    assert str(interval) == told


def test_an_interval_names_its_series() -> None:
    named = since("6.13", stable={"6.12": 11}, unknown=("6.6",)) | between("5.7", "6.0")
    assert sorted(map(str, named.series())) == ["5.7", "6.0", "6.12", "6.13", "6.6"]
    assert list(never.series()) == []

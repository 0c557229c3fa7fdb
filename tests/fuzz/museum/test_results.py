"""What fuzzing the exhibits has shown: the table is kept, and told in few lines."""

from pathlib import Path

import pytest

from fuzz.museum.results import (
    CORRECT,
    FOUND,
    MISSED,
    WITH_BUG,
    Result,
    Results,
    ResultsError,
    quantile,
    summary,
    survival,
)


def row(exhibit: str = "B-01", seed: int = 1, outcome: str = FOUND, seconds: float = 2.5) -> Result:
    calls = 3 if outcome == FOUND else 0
    return Result(exhibit, seed, WITH_BUG, outcome, "pages-kept", 100, seconds, calls, "")


def test_results_are_read_back(tmp_path: Path) -> None:
    results, notice = Results.open(tmp_path)
    assert not notice
    results.put(row())
    results.put(row(seed=2, outcome=MISSED))
    again, notice = Results.open(tmp_path)
    assert not notice
    assert again.get("B-01", 1, WITH_BUG, 60) == row()
    assert again.get("B-01", 2, WITH_BUG, 2.0) == row(seed=2, outcome=MISSED)
    assert again.get("B-01", 2, WITH_BUG, 60) is None, "more time may find it"
    assert again.get("B-01", 3, WITH_BUG, 60) is None


def test_results_of_other_code_are_put_aside(tmp_path: Path) -> None:
    results, _ = Results.open(tmp_path)
    results.put(row())
    path = tmp_path / "results.tsv"
    other = path.read_text().replace("# code ", "# code 0", 1)
    path.write_text(other)
    again, notice = Results.open(tmp_path)
    assert "other code" in notice
    assert again.get("B-01", 1, WITH_BUG, 60) is None
    assert (tmp_path / "results.tsv.old").read_text() == other


def test_fresh_results_begin_anew(tmp_path: Path) -> None:
    results, _ = Results.open(tmp_path)
    results.put(row())
    again, _ = Results.open(tmp_path, fresh=True)
    assert again.get("B-01", 1, WITH_BUG, 60) is None


@pytest.mark.parametrize("text", ["", "exhibit\tseed\n", "{}"])
def test_a_foreign_table_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "results.tsv"
    path.write_text(text)
    with pytest.raises(ResultsError, match="not a table of results"):
        Results.open(tmp_path)
    assert path.read_text() == text


def test_a_damaged_table_is_told(tmp_path: Path) -> None:
    results, _ = Results.open(tmp_path)
    results.put(row())
    path = tmp_path / "results.tsv"
    path.write_text(path.read_text().replace("\t100\t", "\tmany\t"))
    with pytest.raises(ResultsError, match="--fresh"):
        Results.open(tmp_path)


def test_a_table_without_all_its_columns_is_told(tmp_path: Path) -> None:
    results, _ = Results.open(tmp_path)
    results.put(row())
    path = tmp_path / "results.tsv"
    path.write_text(path.read_text().replace("\tpages-kept", ""))
    with pytest.raises(ResultsError, match="does not have the columns exhibit seed side"):
        Results.open(tmp_path)


def test_a_result_is_of_an_exhibit_a_seed_and_a_side(tmp_path: Path) -> None:
    results, _ = Results.open(tmp_path)
    results.put(row(seed=2))
    results.put(row()._replace(side=CORRECT))
    results.put(row())
    results.put(row(seconds=1.25))
    lines = (tmp_path / "results.tsv").read_text().splitlines()[2:]
    told = [line.split("\t") for line in lines]
    assert [(words[1], words[2], words[6]) for words in told] == [
        ("1", WITH_BUG, "1.25"),
        ("1", CORRECT, "2.50"),
        ("2", WITH_BUG, "2.50"),
    ]


def test_results_with_other_rules_after_are_of_other_code(tmp_path: Path) -> None:
    results, _ = Results.open(tmp_path)
    results.put(row())
    again, notice = Results.open(tmp_path, rules_after="call")
    assert "other code" in notice
    assert again.get("B-01", 1, WITH_BUG, 60) is None


@pytest.mark.parametrize(
    ("times", "share", "expected"),
    [
        ([(1.0, True), (2.0, True), (3.0, True), (4.0, True)], 0.5, 2.0),
        ([(1.0, True), (2.0, True), (3.0, True), (4.0, True)], 0.9, 4.0),
        # One that was given up at 1 is likely to have taken as long as the others that were not.
        ([(1.0, False), (2.0, True), (3.0, True)], 0.5, 2.0),
        ([(1.0, True), (2.0, False), (3.0, False)], 0.5, None),
        ([(1.0, True), (2.0, False), (4.0, True)], 0.9, 4.0),
        ([(5.0, False)], 0.5, None),
        ([], 0.5, None),
    ],
)
def test_quantiles_count_what_was_not_found(
    times: list[tuple[float, bool]], share: float, expected: float | None
) -> None:
    assert quantile(times, share) == expected


def test_summary() -> None:
    rows = [row(), row(seed=2, outcome=MISSED, seconds=60.0), row("B-02")]
    table = summary(rows)
    assert table[1] == ("B-01", "1/2", "pages-kept", "100", "-", "2.5", "-", "3")
    assert table[2] == ("B-02", "1/1", "pages-kept", "100", "100", "2.5", "2.5", "3")
    lines = survival(rows)
    assert lines[0] == "1 of 2 exhibits found with every seed, 1 with some, 0 with none"
    assert lines[1].startswith("2 of 3 trials found the bug: 0% within 2 s, 67% within 5 s")

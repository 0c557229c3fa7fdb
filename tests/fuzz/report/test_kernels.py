"""The strip of a finding: where it was met, and where its case shows it."""

from itertools import pairwise

from fuzz.report.kernels import STEP, Columns, told


def test_releases_come_in_their_order_and_others_behind() -> None:
    own = ("linux-6.18+realign", "<b>", "linux-6.1.99", "linux-0.0", "linux-6.12+realign")
    names = Columns.of(own).names
    assert names[0] == "linux-5.0"
    assert names[names.index("linux-6.1.99") + 1].startswith("linux-6.1")
    assert names[-4:] == ("<b>", "linux-0.0", "linux-6.12+realign", "linux-6.18+realign")


def test_kernels_side_by_side_are_one_piece() -> None:
    columns = Columns(("linux-5.0", "linux-6.1", "linux-6.6", "linux-7.3"))
    strip = columns.strip(["linux-6.1"], ["linux-6.1", "linux-6.6", "linux-5.0", "linux-9.9"])
    assert strip.met == f"M{STEP} 3h5v8h-5z"
    assert strip.shows == f"M0 6h{3 * STEP - 1}v2h-{3 * STEP - 1}z"
    assert strip.columns == (0, 1, 2)
    assert strip.words.startswith("met on 6.1; shows on ")
    assert columns.strip([], []).words == "not known"


def test_labels_do_not_overlap() -> None:
    labels = list(Columns.of([]).labels)
    assert labels[0].text == "5.0"
    assert labels[-1].text == "7.3"
    assert all(right.at - left.at >= 5 * STEP for left, right in pairwise(labels))


def test_releases_in_words() -> None:
    assert told(["linux-5.0", "linux-7.3"]) == "5.0, 7.3"

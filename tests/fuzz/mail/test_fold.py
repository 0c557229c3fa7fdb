"""Lines of a mail: what is folded means what it did."""

from fuzz.export.check import COLUMNS
from fuzz.forms.text import parse_call
from fuzz.mail import fold


def test_a_call_is_folded_as_cases_may_be() -> None:
    text = (
        "mmap(0x10000, 0x1000, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED) = 0x10000"
    )
    lines = fold.call(text)
    assert len(lines) == 2
    assert parse_call(" ".join(lines)) == parse_call(text)


def test_what_others_wrote_is_one_paragraph_further_to_the_right() -> None:
    told = fold.quoted(["Cc: a@example.com", "From b", "\x1b[31mred\u202e", "x" * 200])
    assert all(line.startswith("    ") for line in told.splitlines())
    assert "\x1b" not in told
    assert "\u202e" not in told
    assert max(map(len, told.splitlines())) <= COLUMNS

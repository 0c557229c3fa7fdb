"""Which flags of libFuzzer pass, and what the others are answered."""

import importlib.util
import subprocess
import sys

import pytest

from fuzz.campaign.libfuzzer import INSTEAD, WORKING, refused, told, wants_help


@pytest.mark.parametrize(
    "flags", [(), ("-max_len=500",), ("-rss_limit_mb=4096", "-timeout=9", "-cross_over=0")]
)
def test_flags_that_pass(flags: tuple[str, ...]) -> None:
    assert refused(flags) == ""


@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("-jobs=2", "--jobs N"),
        ("-workers=2", "--jobs N"),
        ("-fork=2", "--jobs N"),
        ("-merge=1", "pmdfuzz cmin"),
        ("-set_cover_merge=1", "pmdfuzz cmin"),
        ("-minimize_crash=1", "pmdfuzz minimize CASE"),
        ("-runs=5", "--runs N"),
        ("-dict=words", "--ops"),
        ("-maxlen=500", "-maxlen is unknown"),
        ("--max_len=500", "one dash"),
        ("-max_len", "-max_len=500"),
        ("-max_len=many", "numbers"),
        ("corpus", "is no flag"),
    ],
)
def test_flags_that_do_not_pass_are_answered(flag: str, why: str) -> None:
    assert why in refused(["-max_len=500", flag])
    assert refused(["-max_len=500", flag]).startswith((flag, repr(flag)))


def test_the_list_has_all() -> None:
    assert wants_help(["-max_len=1", "-help=1"]) and wants_help(["--help"])
    assert not wants_help(["-max_len=1"])
    for name in (*WORKING, *INSTEAD):
        assert f"-{name}" in told()
    assert max(map(len, told().splitlines())) <= 80
    assert not set(WORKING) & set(INSTEAD)


@pytest.mark.atheris
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_libfuzzer_has_these_flags() -> None:
    """What passes is known to the libFuzzer that is installed, or it would be ignored."""
    program = "import atheris; atheris.Setup(['x', '-help=1'], lambda _: None); atheris.Fuzz()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    shown = {line.split()[0] for line in done.stderr.decode().splitlines() if line.startswith(" ")}
    assert set(WORKING) <= shown
    assert {name for name in INSTEAD if name != "dump_coverage"} <= shown

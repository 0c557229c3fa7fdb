"""`kernels`, `rules` and `defects`."""

import re

import pytest

from engine.base.kernel import KERNELS, KNOWN_NAMES, SWITCHES
from fuzz.cli.main import main
from fuzz.defects.known import KNOWN
from fuzz.rules.index import RULES
from tests.lib.command import RULE, Output, refused


def test_kernels_lists_switches_kernels_and_geometries(capsys: Output) -> None:
    assert main(["kernels"]) == 0
    out = capsys.readouterr().out
    for switch in SWITCHES.values():
        assert f"\n{switch.name} " in out
        assert f"    {switch.when}: {switch.text}\n" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["realign"][1:] == ["-", "-", "yes", "yes", "yes", "yes"]
    assert rows["wrap_safe_overlap"][1:] == ["-"] * 6
    assert (
        "-\n    in no release: the test for overlapping ranges does not wrap (B-69)\n"
        "    our proposal for B-69: A range that wraps overlaps: "
    ) in out
    assert f"kernels:    {', '.join(KERNELS)}" in out
    assert f"names: {'; '.join(KNOWN_NAMES)}" in out
    assert "i386 PAE, 3 levels, preallocated PMD tables" in out


def test_rules_lists_the_catalogue(capsys: Output) -> None:
    assert main(["rules"]) == 0
    out = capsys.readouterr().out
    assert all(f"{rule.id}  {rule.slug} " in out for rule in RULES)
    assert main(["rules", RULE, "I-03"]) == 0
    heads = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert [head[:4] for head in heads] == ["I-01", "I-03"]
    assert main(["rules", "no-such-rule"]) == 2
    assert refused(capsys).startswith("unknown rule 'no-such-rule'; known: dest-entry-none, ")


def test_a_terminal_may_be_narrow(capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "3")
    assert main(["rules", RULE]) == 0
    assert "\n    a destination entry is none when\n" in capsys.readouterr().out


def test_defects_lists_what_is_known(capsys: Output) -> None:
    assert main(["defects"]) == 0
    out = capsys.readouterr().out
    heads = [line.split()[0] for line in out.splitlines() if not line.startswith(" ")]
    assert heads == [known.id for known in KNOWN]
    commands = [line for line in out.splitlines() if line.startswith("    case: ")]
    assert len(commands) == len(KNOWN)
    assert all(re.search(r"--kernel linux-\S+$", line) for line in commands)  # in one piece
    assert "\n    kernels: 6.7 to 6.11, gone in 6.11.10\n" in out
    assert "repair: +wrap_safe_result (since 6.12, 6.11.10)\n" in out
    assert "repair: +wrap_safe_overlap (no kernel has it)\n    our proposal: A range that " in out


def test_a_defect_is_told_in_full(capsys: Output) -> None:
    assert main(["defects", "cve-2025-21696"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("B-07  CVE-2025-21696  what moves keeps the uffd-wp")
    assert "    rule: I-22 uffd-wp-stray: " in out
    assert "+uffd_write_protects, -uffd_wp_cleared\n" in out
    assert "    in the museum: B-07-entries, B-07-tables, " in out
    assert main(["defects", "no-such-defect"]) == 2
    assert refused(capsys).startswith("unknown defect 'no-such-defect'; known: B-01, B-05, ")

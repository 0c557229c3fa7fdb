"""`kernels` and `rules`."""

from engine.base.kernel import KERNELS, KNOWN_NAMES, SWITCHES
from fuzz.cli.main import main
from fuzz.rules.index import RULES
from tests.lib.command import RULE, Output, refused


def test_kernels_lists_switches_kernels_and_geometries(capsys: Output) -> None:
    assert main(["kernels"]) == 0
    out = capsys.readouterr().out
    for switch in SWITCHES.values():
        assert f"\n{switch.name} " in out
        assert f"    {switch.when}: {switch.text}\n" in out
    rows = {line.split()[0]: line.split() for line in out.splitlines() if line}
    assert rows["realign"][1:] == ["-", "-", "yes", "yes", "yes"]
    assert (
        "\nwrap_safe_overlap                -    -    -    -     -\n"
        "    never: the test for overlapping ranges does not wrap (B-69)\n"
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

"""`bisect`: what it says, and which command comes next."""

from fuzz.cli.main import main
from tests.lib.command import MAP, RULE, STACK, Output, Write, refused


def test_beside_the_nearest_kernel(write: Write, capsys: Output) -> None:
    assert main(["bisect", write(STACK), "--kernel", "linux-6.1"]) == 0
    first, _, on, what, _, others, command = capsys.readouterr().out.splitlines()
    assert first == f"x.case: {RULE} broken by call 1, on linux-6.1 but not on linux-6.7"
    assert on == "realign_stack: on in linux-6.7, off in linux-6.1"
    assert what.startswith("    since 6.7: ")
    assert others.startswith("Switches that the two have set otherwise, too, but do not matter: ")
    assert command.endswith("show x.case --kernel linux-6.7-realign_stack --like linux-6.7")
    assert main(command.partition("pmdfuzz ")[2].split()) == 1


def test_between_the_kernels_of_the_case(write: Write, capsys: Output) -> None:
    own = "linux-6.18-realign-realign_stack"
    text = f"@kernel {own}\n@like linux-6.18\n{STACK}"
    assert main(["bisect", write(text)]) == 0
    out = capsys.readouterr().out
    assert f"a difference in the rule {RULE}, call 1, on {own} but not on linux-6.18\n" in out
    assert "realign_stack: on in linux-6.18" in out and "\nrealign:" not in out


def test_nothing_to_look_for(write: Write, capsys: Output) -> None:
    assert main(["bisect", write(MAP)]) == 2
    assert refused(capsys).startswith("x.case: no rule is broken on linux-6.18")

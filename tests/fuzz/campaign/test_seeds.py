"""What a run starts from: seeds that are encoded, a corpus that is taken up."""

from pathlib import Path
from random import Random

import pytest

from engine.base.geometry import GEOMETRIES
from fuzz.campaign.child import RunError
from fuzz.campaign.seeds import spell_out, take_up, write_seeds
from fuzz.inputs.inputs import PLANS, Inputs

INPUTS = Inputs([GEOMETRIES["x86-64"], GEOMETRIES["small"]])
CALLS = frozenset(INPUTS.opcodes)
TOUCH = "touch(0x200000, 0x1000)\n"


def written(tmp_path: Path, calls: frozenset[str] = CALLS, max_calls: int = 4) -> dict[str, bytes]:
    """The seeds that are made of the cases in seeds/."""
    (tmp_path / "encoded").mkdir(exist_ok=True)
    write_seeds(tmp_path / "encoded", [tmp_path / "seeds"], INPUTS, calls, max_calls)
    return {path.name: path.read_bytes() for path in (tmp_path / "encoded").iterdir()}


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """A directory of cases."""
    directory = tmp_path / "seeds"
    directory.mkdir()
    (directory / "a.case").write_text(TOUCH)
    (directory / "small.case").write_text("@geometry small\n" + TOUCH.replace("200", "2"))
    (directory / "tiny.case").write_text("@geometry tiny\n" + TOUCH.replace("200", ""))
    (directory / "fork.case").write_text(TOUCH + "fork()\n")
    return directory


def test_seeds_for_the_geometries_and_calls_of_the_run(tmp_path: Path, seeds: Path) -> None:
    assert written(tmp_path).keys() == {"seeds-a", "seeds-small", "seeds-fork"}
    few = written(tmp_path, frozenset(("touch",)))
    assert few.keys() == {"seeds-a", "seeds-small"}
    assert INPUTS.decode(few["seeds-small"]).geometry == 1


def test_what_is_no_seed_is_told(tmp_path: Path, seeds: Path) -> None:
    (seeds / "long.case").write_text(TOUCH * 5)
    (seeds / "wrong.case").write_text("touch(\n")
    (tmp_path / "encoded").mkdir()
    told = write_seeds(tmp_path / "encoded", [seeds], INPUTS, CALLS, 4)
    long, wrong = told.skipped
    assert long == f"{seeds / 'long.case'}: more than 4 calls"
    assert wrong.startswith(f"{seeds / 'wrong.case'}:1:")
    assert told.longest == max(map(len, written(tmp_path).values()))
    with pytest.raises(RunError, match="cannot read seeds"):
        write_seeds(tmp_path / "encoded", [tmp_path / "nowhere"], INPUTS, CALLS, 4)


def test_a_corpus_is_spelled_out_and_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    planned = INPUTS.planned(PLANS[0], 1, Random(2))
    outdated = bytes((planned[0] ^ 1,)) + planned[1:]
    spelled = INPUTS.spelled_out(INPUTS.planned(PLANS[1], 0, Random(3)))
    for name, data in (("planned", planned), ("outdated", outdated), ("spelled", spelled)):
        (corpus / name).write_bytes(data)
    read: list[str] = []
    real = Path.read_bytes

    def reading(path: Path) -> bytes:
        read.append(path.name)
        return real(path)

    monkeypatch.setattr(Path, "read_bytes", reading)
    (told,) = take_up(corpus, tmp_path / "aside", INPUTS)
    assert sorted(read) == ["outdated", "planned", "spelled"]
    assert told.startswith("1 inputs of a run that was killed")
    assert {real(path) for path in corpus.iterdir()} == {INPUTS.spelled_out(planned), spelled}
    assert real(tmp_path / "aside" / "outdated") == outdated
    assert spell_out(corpus, INPUTS) == []
    assert take_up(corpus, tmp_path / "aside", INPUTS) == []

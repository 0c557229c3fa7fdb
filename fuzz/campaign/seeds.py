"""What a run starts from: cases given as seeds, and the corpus that earlier runs have left."""

import contextlib
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from fuzz.campaign.child import RunError
from fuzz.case import CaseError
from fuzz.forms import text
from fuzz.inputs.inputs import Inputs
from fuzz.lib.files import write_atomic
from fuzz.lib.lines import short

_HERE = Path(__file__).resolve().parents[1]  # the package, wherever it is installed
# An installed package brings its cases along; a checkout has them beside the packages.
CORPUS = _HERE / "_corpus" if (_HERE / "_corpus").is_dir() else _HERE.parent / "corpus"
SEEDS = (CORPUS / "seeds",)  # no case that breaks a rule: a finding is found, not given


class Written(NamedTuple):
    """Seeds as inputs: the bytes of the longest one, and a line for each file that is no seed."""

    longest: int
    skipped: list[str]


def write_seeds(
    directory: Path,
    places: Sequence[Path] | None,
    inputs: Inputs,
    calls: frozenset[str],
    max_calls: int,
) -> Written:
    """Encode cases into a directory, and remove from it whatever else is there.

    Arguments: `places` are directories of cases, or files (None: the project's own).  Cases for
    other geometries than those of `inputs`, or with others than `calls`, are left out; those of
    more than `max_calls` are skipped.
    Errors raised: RunError if a place cannot be read; OSError.
    """
    if places is None:
        places = tuple(place for place in SEEDS if place.is_dir())
    skipped = []
    names = {geometry.name: number for number, geometry in enumerate(inputs.geometries)}
    wanted: dict[str, bytes] = {}
    for path in (path for place in places for path in _files(place)):
        try:
            case = text.load(path)
            number = names.get(case.geometry or inputs.geometries[0].name)
            if number is not None and calls >= {call.name for call in case.calls}:
                if len(case.calls) > max_calls:
                    raise ValueError(f"more than {max_calls} calls")
                wanted[f"{path.parent.name}-{path.stem}"] = inputs.encode(case, number)
        except CaseError as error:
            skipped.append(str(error))
        except ValueError as error:
            skipped.append(f"{path}: {error}")
    for stale in directory.iterdir():
        if stale.name not in wanted:
            stale.unlink(missing_ok=True)
    for name, data in wanted.items():
        (directory / name).write_bytes(data)
    return Written(max(map(len, wanted.values()), default=0), skipped)


def spell_out(corpus: Path, inputs: Inputs) -> list[Path]:
    """Write down the programs of the corpus that are a plan and a seed: plans will change.

    Returns: the inputs to whose plan that has happened already.
    """
    outdated = []
    for path in _files(corpus):
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue  # another run in this directory was faster
        spelled = inputs.spelled_out(data)
        if spelled is not data:
            write_atomic(path.with_name(hashlib.sha1(spelled).hexdigest()), spelled)
            path.unlink(missing_ok=True)
        elif inputs.is_outdated(data):
            outdated.append(path)
    return outdated


def take_up(corpus: Path, outdated: Path, inputs: Inputs) -> list[str]:
    """See to what a run that was killed left unwritten in the corpus.

    Returns: a line that tells of inputs whose plan has changed since, if there are any: what they
    stood for, only the project as it was then can tell.  They are put aside into `outdated`.
    """
    old = spell_out(corpus, inputs)
    if not old:
        return []
    outdated.mkdir(exist_ok=True)
    for path in old:
        with contextlib.suppress(FileNotFoundError):
            path.rename(outdated / path.name)
    return [
        f"{len(old)} inputs of a run that was killed, made to plans that have changed since; "
        f"they are in {short(outdated)} now"
    ]


def _files(place: Path) -> list[Path]:
    """The files of a directory, or the file itself.  Errors raised: RunError if unreadable."""
    try:
        if place.is_dir():
            return sorted(path for path in place.iterdir() if path.is_file())
        place.stat()
    except OSError as error:
        raise RunError(f"{place}: cannot read seeds: {error.strerror}") from None
    return [place]

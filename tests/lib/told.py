"""Rules of some files by themselves, around one call."""

from engine.base.violation import Violation
from fuzz.rules.judge import ALL
from fuzz.rules.sight import Returned, Sight
from tests.lib.breaks import looked


def told(sight: Sight, result: Returned, *files: str, occupied: int = 0) -> list[Violation]:
    """What is found once the call has returned `result`: by the rules of some files, or of all."""
    sight.returned(result, occupied)
    return looked(
        violation
        for function in ALL.after[sight.call]
        if not files or function.__module__.rpartition(".")[2] in files
        for violation in function(sight)
    )

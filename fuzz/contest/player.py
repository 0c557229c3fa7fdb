"""The process of one trial: `python -m fuzz.contest.player '{…}'`, begun by `fuzz.contest.trials`.

Who covers the engine must import it, so each contestant is imported only when it plays.
"""

import json
import sys
from typing import Any, NoReturn

from fuzz.campaign.child import Setting
from fuzz.contest import trial
from fuzz.contest.trial import Task
from fuzz.lib.processes import end_when_unheard, limit_memory

_MOST_MEMORY_BYTES = 3 << 29
_UNHEARD = 1  # the exit status if whoever has started it is gone


def main() -> NoReturn:
    """Play until the trial is over."""
    if not __debug__:
        sys.exit("fuzz.contest.player: -O strips the assertions; run without it")
    told: dict[str, Any] = json.loads(sys.argv[1])
    task = Task(**told["task"])
    end_when_unheard(told["tell"], _UNHEARD)
    limit_memory(_MOST_MEMORY_BYTES)
    if task.contestant in (trial.WHOLE, trial.UNPLANNED):
        from fuzz.contest import ours

        ours.play(task, told["tell"], Setting(**told["setting"]), told["flags"])
    if task.contestant == trial.PROVIDER:
        from fuzz.contest import provider

        provider.instrumented()
    from fuzz.contest.bugs import bug_named
    from fuzz.contest.watch import Watch

    watch = Watch(bug_named(task.bug), task, told["tell"])
    match task.contestant:
        case trial.BLIND:
            from fuzz.contest import blind

            blind.play(watch, task.seed)
        case trial.RANDOM:
            from fuzz.contest import chance

            chance.play(watch, task.seed)
        case trial.NOISE:
            from fuzz.contest import noise

            noise.play(watch, task.seed)
        case trial.STATEFUL:
            from fuzz.contest import stateful

            stateful.play(watch, task.seed)
        case trial.PROVIDER:
            provider.play(watch, task.seed)
    sys.exit(f"fuzz.contest.player: no contestant {task.contestant!r}")


if __name__ == "__main__":
    main()

"""What the fuzzing process of a trial is told: one bug, from nothing, all calls, no cells."""

from collections.abc import Iterable

from engine.base.geometry import Geometry
from fuzz.campaign.child import LIBFUZZER, Setting
from fuzz.forms import wire


def trial_setting(bug: str, geometries: Iterable[Geometry]) -> Setting:
    """The setting of a process that looks for a bug, by its name."""
    return Setting(
        kernels=[],
        geometries=[geometry.name for geometry in geometries],
        calls=None,
        max_calls=wire.MAX_CALLS,
        cells=False,
        exhibit=bug,
    )


def trial_flags(seed: int) -> list[str]:
    """What libFuzzer is told in a trial with that seed."""
    return [f"-seed={seed}", f"-max_len={wire.WIDTH * wire.MAX_CALLS + 1}", *LIBFUZZER]

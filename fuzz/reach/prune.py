"""A corpus without what is not needed: found out in a process of its own, written elsewhere."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.base.geometry import Geometry
from fuzz.campaign.child import environment
from fuzz.lib.files import new_folder
from fuzz.reach.features import Needed, Task
from fuzz.reach.reached import ReachError


def needed_of(folder: Path, geometries: Sequence[Geometry], kernels: Sequence[str]) -> Needed:
    """Which inputs of a folder are needed.

    Arguments: `geometries` are those by which they are read (`fuzz.inputs.inputs.Inputs`).
    Errors raised: ReachError.
    """
    names = sorted(str(path) for path in folder.iterdir() if path.is_file())
    task = Task(names, [geometry.name for geometry in geometries], list(kernels))
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.reach.features"],
        input=json.dumps(task._asdict()),
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        check=False,
    )
    if done.returncode:
        raise ReachError(f"measuring failed, see above (exit status {done.returncode})")
    return Needed(*json.loads(done.stdout))


def write_folders(target: Path, folders: Mapping[str, Sequence[str]]) -> None:
    """Copy files into folders of a new one, all of it or nothing.

    Arguments: `folders` has the files of each, by its name.
    Errors raised: WriteError, also if `target` is there and not empty.
    """
    with new_folder(target) as folder:
        for name, files in folders.items():
            (folder / name).mkdir()
            for file in files:
                shutil.copy2(file, folder / name)

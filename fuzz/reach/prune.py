"""A corpus without what is not needed: found out in a process of its own, written elsewhere."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine.base.geometry import Geometry
from fuzz.lib.files import WriteError
from fuzz.reach.features import Needed, Task
from fuzz.reach.measure import HOME
from fuzz.reach.reached import ReachError


def needed_of(folder: Path, geometries: Sequence[Geometry], kernels: Sequence[str]) -> Needed:
    """Which inputs of a folder are needed.

    Arguments: `geometries` are those by which they are read (`fuzz.inputs.inputs.Inputs`).
    Errors raised: ReachError.
    """
    names = sorted(str(path) for path in folder.iterdir() if path.is_file())
    task = Task(names, [geometry.name for geometry in geometries], list(kernels))
    path = os.pathsep.join([str(HOME), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "fuzz.reach.features"],
        input=json.dumps(task._asdict()),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
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
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        scratch.chmod(0o777 & ~_umask())
        for name, files in folders.items():
            (scratch / name).mkdir()
            for file in files:
                shutil.copy2(file, scratch / name)
        scratch.rename(target)  # over an empty folder, too
    except OSError as error:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        raise WriteError(target, error.strerror or str(error)) from error
    except BaseException:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)
        raise


def _umask() -> int:
    """That of this process, which can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask

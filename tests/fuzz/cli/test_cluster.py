"""The recipes for clusters: shell, Python and YAML that can be read, options that dask has."""

import re
import subprocess

import pytest

pytest.importorskip("distributed", reason="needs dask.distributed, which is not installed here")

import yaml
from distributed.cli.dask_scheduler import main as scheduler
from distributed.cli.dask_worker import main as worker

from fuzz.cli.main import main

KINDS = ("by-hand", "slurm", "kubernetes")


def recipe(capsys: pytest.CaptureFixture[str], kind: str, *words: str) -> str:
    """What is printed, without comments."""
    assert main(["cluster", kind, *words]) == 0
    told = capsys.readouterr().out.splitlines()
    return "".join(f"{line}\n" for line in told if not line.startswith("#"))


def here_documents(text: str) -> list[str]:
    """What is put into files or given to programs."""
    return re.findall(r"<<'END'\n(.*?)^END$", text, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("kind", KINDS)
def test_each_is_shell(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = recipe(capsys, kind)
    subprocess.run(["bash", "-n"], input=told, text=True, check=True)
    assert "ADDRESS" not in told


@pytest.mark.parametrize("kind", KINDS)
def test_dask_has_the_options(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    told = recipe(capsys, kind).replace("\\\n", " ")
    for program, command in (("scheduler", scheduler), ("worker", worker)):
        known = {name for option in command.params for name in option.opts}
        lines = re.findall(rf"dask {program} [^\n]*|\[dask, {program}[^\]]*", told)
        assert lines or kind == "slurm"
        for line in lines:
            assert set(re.findall(r"--[a-z-]+", line)) <= known


def test_by_hand_all_stays_on_this_machine_unless_told_otherwise(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert set(re.findall(r"--host (\S+)", recipe(capsys, "by-hand"))) == {"127.0.0.1"}
    told = recipe(capsys, "by-hand", "--host", "10.0.0.1")
    assert set(re.findall(r"--host (\S+)", told)) == {"10.0.0.1", "$(hostname"}
    assert "tls://10.0.0.1:8786" in told and "tcp://" not in told


def test_the_one_for_slurm_is_python(capsys: pytest.CaptureFixture[str]) -> None:
    (script,) = here_documents(recipe(capsys, "slurm"))
    compile(script, "cluster.py", "exec")


def test_the_one_for_kubernetes_is_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    _, manifest = here_documents(recipe(capsys, "kubernetes"))
    told = yaml.safe_load(manifest)
    assert told["kind"] == "DaskCluster"
    for part in ("scheduler", "worker"):
        spec = told["spec"][part]["spec"]
        (container,) = spec["containers"]
        assert container["args"][:2] == ["dask", part]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}

"""`report`: pages of a working directory, written, or served to this machine's browsers."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from fuzz.cli.main import main
from fuzz.findings.cases import FINDINGS
from tests.lib.command import BUCKET, Output, refused
from tests.lib.constants import ROOT

REPORT = ["report", "--workdir", "work", "--jobs", "1"]


def test_pages_are_written(workdir: Path, capsys: Output) -> None:
    assert main(REPORT) == 0
    assert capsys.readouterr().out == "work/report/index.html\n"
    page = (workdir / "report" / "findings" / f"{BUCKET.name}.html").read_text()
    assert f"replay {workdir / FINDINGS / BUCKET.name}.case" in page
    assert main([*REPORT, "-o", "all.html"]) == 0
    assert capsys.readouterr().out == "all.html\n"


def test_what_cannot_be_read_is_told(workdir: Path, capsys: Output) -> None:
    (workdir / FINDINGS / "spoilt.case").write_text("mmap(")
    assert main(REPORT) == 2
    out, err = capsys.readouterr()
    assert out == "work/report/index.html\n"
    assert "spoilt.case:1" in err
    assert "spoilt.case:1" in (workdir / "report" / "index.html").read_text()


def test_nothing_to_report_or_nowhere_to_go(workdir: Path, capsys: Output) -> None:
    assert main(["report", "--workdir", "nowhere"]) == 2
    assert "nowhere is not there" in refused(capsys)
    Path("mine.html").write_text("<p>mine")
    assert main([*REPORT, "-o", "mine.html"]) == 2
    assert "no report of ours" in refused(capsys)
    assert main([*REPORT, "-o", "x.html", "--serve"]) == 2
    assert "--serve is for a folder" in refused(capsys)


def test_a_port_that_somebody_has(workdir: Path, capsys: Output) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main([*REPORT, "--serve", str(port)]) == 2
    assert f"port {port}: Address already in use" in refused(capsys)
    assert main([*REPORT, "--serve", "65536"]) == 2
    assert "is no port" in capsys.readouterr().err


def test_it_is_served_until_ctrl_c(workdir: Path) -> None:
    command = [sys.executable, "-m", "fuzz", *REPORT, "--serve"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "work/report/index.html\n"
        url = process.stdout.readline().split()[0]
        with urlopen(url) as page:
            assert BUCKET.name in page.read().decode()
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    with pytest.raises(OSError):
        urlopen(url)


def test_a_working_directory_is_a_directory(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "file").touch()
    for name, why in (("file", "file: not a directory"), ("none", "none is not there; ")):
        assert main(["report", "--workdir", str(tmp_path / name)]) == 2
        assert why in refused(capsys)

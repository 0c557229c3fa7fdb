"""A report is served to this machine's browsers: its pages, under our name, and nothing else."""

from collections.abc import Iterator
from contextlib import closing
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest

from fuzz.report.serve import Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "secret.html").write_text("secret")
    folder = tmp_path / "report"
    (folder / "findings").mkdir(parents=True)
    (folder / "index.html").write_text("<p>index")
    (folder / "findings" / "a+b--mremap.html").write_text("<p>finding")
    (folder / "findings" / "notes.txt").write_text("notes")
    with Server(folder, 0) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


class Answer(NamedTuple):
    status: int
    headers: Message
    body: bytes


def asked(server: Server, path: str, host: str = "", method: str = "GET") -> Answer:
    with closing(HTTPConnection("127.0.0.1", server.server_port)) as connection:
        connection.request(method, path, headers={"Host": host} if host else {})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


def test_pages_are_served(server: Server) -> None:
    assert server.url == f"http://127.0.0.1:{server.server_port}/"
    for path, content in (
        ("/", b"<p>index"),
        ("/index.html?x", b"<p>index"),
        ("/findings/a%2Bb--mremap.html", b"<p>finding"),
        ("/findings/a+b--mremap.html", b"<p>finding"),
    ):
        answer = asked(server, path)
        assert (answer.status, answer.body) == (200, content)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    head = asked(server, "/", method="HEAD")
    assert (head.status, head.headers["Content-Length"], head.body) == (200, "8", b"")


@pytest.mark.parametrize(
    "path",
    [
        "/findings",
        "/findings/",
        "/findings/notes.txt",
        "/findings/gone.html",
        "/findings/../../secret.html",
        "/findings/..%2f..%2fsecret.html",
        "/../secret.html",
        "/findings/.html",
        "/findings/%00.html",
    ],
)
def test_nothing_else_is(server: Server, path: str) -> None:
    answer = asked(server, path)
    assert answer.status == 404
    assert b"secret" not in answer.body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "localhost.evil.example:{port}"])
def test_a_name_that_is_not_ours_is_refused(server: Server, host: str) -> None:
    answer = asked(server, "/", host.format(port=server.server_port))
    assert answer.status == 403
    assert b"index" not in answer.body
    assert asked(server, "/", f"localhost:{server.server_port}").status == 200


def test_nothing_can_be_sent(server: Server) -> None:
    assert asked(server, "/", method="POST").status == 501

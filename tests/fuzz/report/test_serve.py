"""A report is served to this machine's browsers: its pages, under our name, and nothing else."""

import socket
from collections.abc import Iterator
from contextlib import closing
from email.message import Message
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import pytest

from fuzz.report.pages import MARK
from fuzz.report.serve import Server


def page(words: str) -> str:
    return f'<meta name="generator" content="{MARK} 0"><p>{words}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    (tmp_path / "secret.html").write_text("secret")
    folder = tmp_path / "report"
    (folder / "findings").mkdir(parents=True)
    (folder / "index.html").write_text(page("index"))
    (folder / "findings" / "a+b--mremap.html").write_text(page("finding"))
    (folder / "findings" / "notes.txt").write_text(page("notes"))
    (folder / "findings" / "others.html").write_text("somebody's secret")
    (folder / "findings" / "link.html").symlink_to(tmp_path / "secret.html")
    (folder / "findings" / "folder.html").mkdir()
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
        ("/", page("index")),
        ("/index.html?x", page("index")),
        ("/findings/a%2Bb--mremap.html", page("finding")),
        ("/findings/a+b--mremap.html", page("finding")),
    ):
        answer = asked(server, path)
        assert (answer.status, answer.body.decode()) == (200, content)
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert answer.headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    head = asked(server, "/", method="HEAD")
    assert (head.status, head.headers["Content-Length"], head.body) == (
        200,
        str(len(page("index"))),
        b"",
    )


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
        "/findings/others.html",
        "/findings/link.html",
        "/findings/folder.html",
        "/findings/%252e%252e/secret.html",
        "/findings/%2e%2e/%2e%2e/secret.html",
        "/findings/..%5c..%5csecret.html",
        "//secret.html",
        "/index.html%0a",
        "/%0d%0aX-Y:%20z",
        "/<script>",
        "/%ff%fe.html",
        f"/findings/{'a' * 5000}.html",
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


@pytest.mark.parametrize(
    "lines",
    [
        "GET / HTTP/1.1",
        "GET / HTTP/1.0",
        "GET /",
        "GET http://evil.example/ HTTP/1.1\r\nHost: {host}",
        "GET / HTTP/1.1\r\nHost: {host}\r\nHost: evil.example",
        "GET / HTTP/1.1\r\nHost: evil.example\r\nHost: {host}",
        "GET / HTTP/1.1\r\nHost: {host}, evil.example",
        "GET / HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: {host}",
        "GET / HTTP/1.1\r\nHost: user@{host}",
    ],
)
def test_who_does_not_say_one_name_of_ours_gets_no_page(server: Server, lines: str) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=30) as connection:
        connection.sendall(
            f"{lines}\r\n\r\n".format(host=f"127.0.0.1:{server.server_port}").encode()
        )
        answer = connection.makefile("rb").read()
    assert b"index" not in answer


def test_what_is_asked_for_is_no_markup_in_the_answer(server: Server) -> None:
    answer = asked(server, "/", method="<script>alert(1)</script>")
    assert answer.status == 501
    assert b"<script>" not in answer.body


def test_nothing_can_be_sent(server: Server) -> None:
    assert asked(server, "/", method="POST").status == 501

"""A report for a browser on this machine, and for nobody else.

The server is bound to the loopback interface.  A page elsewhere can make a browser ask it all the
same, under a name that leads here (DNS rebinding), so the name in the request must be ours.  It
serves the pages of the report and nothing else, whatever lies or leads elsewhere beside them; there
are no listings.
"""

import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from fuzz.report.write import FINDINGS, INDEX, is_ours

_HOST = "127.0.0.1"
_OWN_NAMES = (_HOST, "localhost")
_PAGE = re.compile(rf"/(?:{INDEX})?|/{FINDINGS}/[A-Za-z0-9+_-][A-Za-z0-9+._-]*\.html")
_SECONDS = 30.0  # for a request; browsers open connections that they may need


class Server(ThreadingHTTPServer):
    """Serves the report in a folder.

    Arguments: `port` 0: any that is free.
    Errors raised: OSError, OverflowError: there is no such port, or somebody has it.
    """

    daemon_threads = True

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        super().__init__((_HOST, port), _Handler)

    @property
    def url(self) -> str:
        """Where the index is."""
        return f"http://{_HOST}:{self.server_port}/"

    @property
    def hosts(self) -> frozenset[str]:
        """The names under which it may be asked."""
        return frozenset(f"{name}:{self.server_port}" for name in _OWN_NAMES)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = _SECONDS
    server_version, sys_version = "pmdfuzz", ""

    def do_GET(self) -> None:
        """A page."""
        self._answer()

    def do_HEAD(self) -> None:
        """What a page would be."""
        self._answer()

    def _answer(self) -> None:
        names = self.headers.get_all("Host", [])
        if len(names) != 1 or names[0] not in self.server.hosts:
            self.send_error(HTTPStatus.FORBIDDEN, "Not asked under a name of this machine")
            return
        path = unquote(self.path.partition("?")[0])
        if not _PAGE.fullmatch(path):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            page = (self.server.folder / (path.lstrip("/") or INDEX)).read_bytes()
        except OSError:  # it has not been made yet, or is gone
            page = b""
        if not is_ours(page):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(page)))
        self.send_header("Content-Security-Policy", "frame-ancestors 'none'")  # more is in the page
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-cache")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    def log_message(self, *_: object) -> None:
        """Requests are nobody's affair but the browser's."""

"""A store in front of another that does not know some of its objects: forgetful_store.py PORT UPSTREAM_PORT FORGOTTEN.

FORGOTTEN is a folder: a file of it, named as the end of a key with `+` for `/`, holds how often that is answered 404.
A process of its own, for pyarrow keeps Python's lock while it copies files.
"""

from __future__ import annotations

import sys
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_NOT_FORWARDED = ("transfer-encoding", "connection", "content-length")


class Handler(BaseHTTPRequestHandler):
    """Forwards what it does not forget."""

    protocol_version = "HTTP/1.1"
    upstream: int
    forgotten: Path

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.command in ("GET", "HEAD") and self._forgets():
            self.send_error(404)
            return
        upstream = HTTPConnection("127.0.0.1", self.upstream)
        upstream.request(self.command, self.path, body, dict(self.headers))
        answer = upstream.getresponse()
        content = answer.read()
        self.send_response_only(answer.status)
        for header, value in answer.getheaders():
            if header.lower() not in _NOT_FORWARDED:
                self.send_header(header, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        self.wfile.write(content)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 As http.server names them.

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _forgets(self) -> bool:
        for file in self.forgotten.iterdir():
            left = int(file.read_text())
            if left and self.path.partition("?")[0].endswith(file.name.replace("+", "/")):
                file.write_text(str(left - 1))
                return True
        return False


if __name__ == "__main__":
    Handler.upstream, Handler.forgotten = int(sys.argv[2]), Path(sys.argv[3])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()

"""A node's HTTP server: `GET /progress` (NodeProgress as JSON), `/metrics` (Prometheus), `/healthz`. Torch-free."""

from __future__ import annotations

import ipaddress
import socket
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any

from typing_extensions import override

from zerotune_trainer.addresses import port_in_use
from zerotune_trainer.launching.metrics import CONTENT_TYPE, render_metrics
from zerotune_trainer.progress import NodeProgress

_CONNECTIONS = 64
"""How many are served at once. The operator, a monitoring system and the job's other hosts ask for a moment each."""
_CONNECTIONS_OF_ONE = 16
"""How many of one address: nobody takes them all. On one machine the hosts of a job share an address."""

Observe = Callable[[], NodeProgress]
"""Gives the node's state now; called in the server's threads."""
Request = socket.socket | tuple[bytes, socket.socket]
Address = Any
"""(host, port), with more in IPv6."""


class ProgressServer(AbstractContextManager["ProgressServer"]):
    """Serves a node's progress for as long as the context lasts.

    Args:
        address: The address to listen on.
        port: The port to listen on.
        observe: Gives what is served.

    Raises:
        TemporaryError: the port is in use.
    """

    def __init__(self, address: str, port: int, observe: Observe) -> None:
        try:
            self._server = _Server((address, port), observe)
        except OSError as error:
            raise port_in_use(port, "for /progress and /metrics", error) from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="progress", daemon=True)

    def __enter__(self) -> ProgressServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], observe: Observe) -> None:
        if ipaddress.ip_address(address[0]).version == 6:
            self.address_family = socket.AF_INET6
        self.observe = observe
        self._lock = threading.Lock()
        self._served: Counter[str] = Counter()
        super().__init__(address, _Handler)

    @override
    def verify_request(self, request: Request, client_address: Address) -> bool:
        """Whether a connection is served: one that is too many is closed at once."""
        with self._lock:
            free = self._served.total() < _CONNECTIONS and self._served[client_address[0]] < _CONNECTIONS_OF_ONE
            self._served[client_address[0]] += free
        return free

    @override
    def process_request_thread(self, request: Request, client_address: Address) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._served -= Counter([client_address[0]])

    def server_bind(self) -> None:
        # HTTPServer's own looks up the machine's full name, which may take seconds where DNS does not answer.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.socket.getsockname()[:2]


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 10  # an idle connection is closed after this many seconds

    def do_GET(self) -> None:
        match self.path:
            case "/progress":
                progress = self.server.observe().model_dump_json(by_alias=True, exclude_none=True)
                self._answer("application/json", progress.encode())
            case "/metrics":
                self._answer(CONTENT_TYPE, render_metrics(self.server.observe()))
            case "/healthz":
                self._answer("text/plain", b"ok\n")
            case _:
                self.send_error(HTTPStatus.NOT_FOUND, "there are /progress, /metrics and /healthz")

    def log_message(self, *_: object) -> None:
        """Requests are not logged: the operator makes one every few seconds."""

    def _answer(self, content_type: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

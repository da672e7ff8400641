"""The operator asks the Hub about a model once, however many jobs run it, and again after an error."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import parse_job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.hub import Hub
from zerotune_operator.backends.registry import BACKENDS, Target
from zerotune_trainer.errors import InputMissingError, ZerotuneError
from zerotune_trainer.sizing.model_config import model_shape

pytestmark = pytest.mark.anyio
CONFIG = (Path(__file__).parents[2] / "golden" / "plan" / "models" / "llama-3.1-8b.json").read_bytes()


@contextmanager
def serving_hub(handler: type[BaseHTTPRequestHandler], monkeypatch: pytest.MonkeyPatch, cache: Path) -> Iterator[None]:
    """A stand-in of the Hub, which is asked meanwhile, and an empty cache."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield
    server.shutdown()
    server.server_close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """The paths that a stand-in of the Hub was asked for; it has the model org/there."""
    paths: list[str] = []

    class Models(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(200 if self.path.startswith("/org/there/") else 404)
            self.end_headers()
            self.wfile.write(CONFIG)

    with serving_hub(Models, monkeypatch, tmp_path):
        yield paths


async def test_many_jobs_of_a_model_make_one_request(asked: list[str]) -> None:
    hub = Hub()
    shapes = await asyncio.gather(*(hub.shape("hf://org/there", None) for _ in range(20)))
    shapes.append(await hub.shape("hf://org/there", None))

    assert len(set(shapes)) == 1
    assert asked == ["/org/there/resolve/main/config.json"]


async def test_a_model_that_was_not_there_is_asked_for_again(asked: list[str]) -> None:
    hub = Hub()
    for _ in range(2):
        with pytest.raises(InputMissingError):
            await hub.shape("hf://org/missing", None)

    assert len([path for path in asked if path.endswith("/config.json")]) == 2


async def test_the_webhook_plans_with_the_shape_of_a_public_model_only(asked: list[str]) -> None:
    known_shape = BACKENDS[Target.KUBERNETES].known_shape

    assert await known_shape(_job_of("hf://org/there"), JobStatus(), Hub()) is not None
    assert await known_shape(_job_of("hf://org/there", credentials={"secretName": "hub"}), JobStatus(), Hub()) is None
    assert await known_shape(_job_of("s3://models/there"), JobStatus(), Hub()) is None
    assert asked == ["/org/there/resolve/main/config.json"]


def _job_of(uri: str, **model: Any) -> Job:
    spec = {"method": "cpt", "model": {"uri": uri, **model}, "data": {"train": {"uris": ["s3://records/*.jsonl"]}}}
    named = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "tune"}}
    return parse_job(named | {"spec": spec | {"output": {"uri": "s3://models/tune"}}})


async def test_a_hub_that_is_silent_is_waited_for_once_a_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        hub = Hub(patience=0.2)

        assert await hub.shape("hf://org/one", None) is None
        deaf.accept()

        assert await hub.shape("hf://org/one", None) is None
        deaf.settimeout(0.1)
        with pytest.raises(TimeoutError):
            deaf.accept()

        deaf.settimeout(5)
        assert await hub.shape("hf://org/two", None) is None
        deaf.accept()  # One tenant's model does not keep the others from being asked about.


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/away", "redirects to another host, which is not followed"),
        ("/drops", r"bytes in 0\.3 s"),
        ("/endless", "is larger than"),
    ],
)
def test_a_hostile_hub_costs_bytes_and_seconds_that_are_bounded(
    path: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    led_away: list[str | None] = []

    class Hostile(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/stolen"):
                led_away.append(self.headers["Authorization"])
            self.send_response(302 if path == "/away" else 200)
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/stolen")
            self.end_headers()
            with suppress(OSError):
                for _ in range(200):
                    self.wfile.write(b" " if path == "/drops" else b" " * (1 << 20))
                    time.sleep(0.05 if path == "/drops" else 0)

    monkeypatch.setattr("zerotune_trainer.sizing.hub._LONGEST_SECONDS", 0.3)
    with serving_hub(Hostile, monkeypatch, tmp_path), pytest.raises(ZerotuneError, match=message):
        model_shape("hf://org/there", None, lambda _: b"")
    assert led_away == []

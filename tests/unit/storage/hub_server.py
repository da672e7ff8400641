"""A stand-in for the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlparse

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": b"weights" * 1000,
    "tokenizer.json": b"{}",
    "original/consolidated.pth": b"the same weights once more",
}
DATA = {
    "README.md": b"---\nconfigs:\n"
    b"- {config_name: en, data_files: [{split: train, path: train.jsonl}, {split: test, path: test.jsonl}]}\n"
    b"- {config_name: de, data_files: [{split: train, path: de.jsonl}]}\n---\n",
    "train.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
    "test.jsonl": b'{"text": "three"}\n',
    "de.jsonl": b'{"text": "eins"}\n',
}
COMMIT = "c" * 40
TOKEN = "hf_of_this_test"  # not a secret: the server below made it up


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download takes: one public and one private model, and a data set of each kind."""

    requests: ClassVar[list[tuple[str, str, str | None]]]

    def do_GET(self) -> None:
        token = self.headers.get("Authorization")
        self.requests.append((self.command, self.path, token))
        path = unquote(urlparse(self.path).path)
        if "/private" in path and token != f"Bearer {TOKEN}":
            return self.answer(401, b"", {"X-Error-Code": "RepoNotFound"})
        if "/gated" in path:
            return self.answer(403, b"", {"X-Error-Code": "GatedRepo"})
        if "/none" in path:
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        if path.endswith("/nowhere"):
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        files = DATA if "/datasets/" in path else FILES
        if path.startswith(("/api/models/", "/api/datasets/")):
            return self.api(path, files)
        name = path.split(f"/resolve/{COMMIT}/")[-1]
        if name not in files:
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        tag = hashlib.sha256(files[name]).hexdigest()
        return self.answer(200, files[name], {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET  # noqa: N815

    def api(self, path: str, files: dict[str, bytes]) -> None:
        if "/tree/" in path:
            found = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha256(data).hexdigest()[:40]}
                for name, data in files.items()
            ]
            return self.answer(200, json.dumps(found).encode(), {})
        about = {"id": "org/model", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
        return self.answer(200, json.dumps(about).encode(), {})

    def answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class HubServer:
    def __init__(self) -> None:
        self.handler: type[Hub] = type("Handler", (Hub,), {"requests": []})
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def tokens(self) -> set[str | None]:
        """What came with the requests for models; the client asks the hub other things besides."""
        return {token for _, path, token in self.handler.requests if "/org/" in path}

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def run(self, code: str, cache: Path, *arguments: str, **environment: str) -> str:
        """What Python code prints that uses this hub, in a process of its own: a client reads its environment once."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        endpoint = f"http://127.0.0.1:{self.server.server_port}"
        done = subprocess.run(
            [sys.executable, "-c", code, str(cache), *arguments],
            env=inherited | {"HF_ENDPOINT": endpoint, "HF_HOME": str(cache / "home"), **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

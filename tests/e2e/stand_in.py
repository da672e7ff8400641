"""A job whose pods do the launcher's part without training: they report how far they are, and end when asked to.

operator                          GET /progress     a NodeProgress
test, through the API server      POST /end/CODE    the body is the termination message; exit code CODE
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zerotune_trainer.config import Launch, load_config
from zerotune_trainer.errors import Failure
from zerotune_trainer.progress import Completion, NodeProgress, Progress, RankProgress

Object = dict[str, Any]
NAME = "tuned"
IMAGE = "zerotune.dev/operator:0.1.0"
"""It has Python and an init, which is all a stand-in needs."""
PORT = Launch.model_fields["progress_port"].default
OUTPUT = "s3://models/tuned"
STEP = 10
PROGRESS = Progress(step=STEP, total=STEP, first_step=0, loss=1.5)
REPORT = NodeProgress(
    job=NAME,
    attempt=0,
    host=f"{NAME}-a0-0",
    ranks=[RankProgress(rank=0, phase="training", step=STEP, heartbeat_age_seconds=0, step_age_seconds=0)],
    progress=PROGRESS,
)
PROGRAM = """
import os, signal, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer

class Node(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(os.environ["REPORT"].encode())

    def do_POST(self):
        message = self.rfile.read(int(self.headers["Content-Length"]))
        with open("/dev/termination-log", "wb") as log:
            log.write(message)
        self.answer(b"{}")
        threading.Timer(0.2, os._exit, [int(self.path.rpartition("/")[2])]).start()

    def answer(self, content):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
HTTPServer(("", int(sys.argv[1])), Node).serve_forever()
"""


def job(*, inspected: bool) -> Object:
    """A FineTuneJob of one node, which may fail once.

    Args:
        inspected: Its model is where only pods can read it: the ConfigMap `model` is mounted. Else it is on the Hub.
    """
    container: Object = {
        "name": "trainer",
        "command": ["tini", "--", "python3", "-c", PROGRAM, str(PORT)],
        "env": [{"name": "REPORT", "value": REPORT.model_dump_json(by_alias=True, exclude_none=True)}],
    }
    pod: Object = {"containers": [container]}
    if inspected:
        container["volumeMounts"] = [{"name": "model", "mountPath": "/model"}]
        pod["volumes"] = [{"name": "model", "configMap": {"name": "model"}}]
    return {
        "apiVersion": "zerotune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": NAME},
        "spec": {
            "method": "cpt",
            "model": {"uri": "file:///model" if inspected else "hf://small/model"},
            "data": {"train": {"uris": ["s3://records/train.jsonl"]}, "columns": {"text": "text"}, "maxLength": 64},
            "training": {"globalBatchSize": 1, "maxSteps": STEP},
            "topology": {"nodes": 1, "cpu": "10m"},
            "output": {"uri": OUTPUT},
            "backend": {"kubernetes": {"image": IMAGE, "pod": {"spec": pod}}},
            "runPolicy": {"maxRestarts": 1},
        },
    }


def failure() -> tuple[int, str]:
    """An end that may pass: exit code and termination message."""
    error = Failure(failure_class="Temporary", message="the disk is full", rank=0, exit_code=75)
    return error.exit_code, error.termination_message()


def completion(config: str) -> tuple[int, str]:
    """A good end, of the job that `config` (config.json) is for."""
    with TemporaryDirectory() as folder:
        Path(folder, "config.json").write_text(config)
        found = load_config(Path(folder))
    whole = Completion(
        job_uid=found.job.uid, config_digest=found.digest(), uri=OUTPUT, files=7, bytes=1234, progress=PROGRESS
    )
    return 0, whole.termination_message()

"""The claim that jobs read from and write to: what is in it at first, and the pod through which tests read it."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from typing import Any

from zerotune_devtools.checkout import ROOT
from zerotune_devtools.harness.kubectl import Namespace, Object

CLAIM = "cwe"
"""As the script names it, and where it mounts it."""
BAD_RECORD = 3
"""Line of bad.jsonl that is no JSON object."""
_SCRIPT = ROOT / "examples" / "quickstart" / "seed_volume.py"
_SIZES = ("--trained-on", "40", "--held-out", "3")
_SEED_SECONDS = 180
_READER = "reader"


class Volume:
    """The claim `cwe` of a namespace."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def fill(self) -> None:
        """Make the claim, put model and data in, and start the pod that reads it."""
        claim, seed, job = _seeding()
        self._namespace.apply(claim, seed | {"data": seed["data"] | data()}, job, _reader(job))
        self._namespace.kubectl("wait", "job/fill", "--for=condition=Complete", f"--timeout={_SEED_SECONDS}s")
        self._namespace.kubectl("wait", f"pod/{_READER}", "--for=condition=Ready", f"--timeout={_SEED_SECONDS}s")

    def text(self, path: str) -> str:
        """A text file of the claim."""
        return self._namespace.kubectl("exec", _READER, "--", "cat", f"/{CLAIM}/{path}")

    def json(self, path: str) -> Any:
        """A JSON file of the claim."""
        return json.loads(self.text(path))

    def records(self, path: str) -> list[Object]:
        """The records of JSON Lines files, a glob, in the order of their names."""
        return [json.loads(line) for line in self.run(f"cat /{CLAIM}/{path}").splitlines()]

    def run(self, command: str) -> str:
        """What a shell command prints that runs where the claim is mounted, at `/CLAIM`."""
        return self._namespace.kubectl("exec", _READER, "--", "sh", "-c", command)

    def files(self, path: str) -> set[str]:
        """The names in a folder of the claim."""
        return set(self._namespace.kubectl("exec", _READER, "--", "ls", f"/{CLAIM}/{path}").split())

    def changed(self, path: str) -> float:
        """When a file was last written to, in seconds since 1970."""
        return float(self._namespace.kubectl("exec", _READER, "--", "stat", "--format=%.9Y", f"/{CLAIM}/{path}"))


def data() -> dict[str, str]:
    """The files of the folder data, by name: real text about weaknesses of software."""
    _, seed, _ = _seeding()
    files = {name: text for name, text in seed["data"].items() if name.endswith(".jsonl")}
    lines = files["cpt-train.jsonl"].splitlines(keepends=True)
    bad = "".join([*lines[: BAD_RECORD - 1], '{"text": "cut o\n', *lines[BAD_RECORD:]])
    return files | {"bad.jsonl": bad}


@functools.cache
def _seeding() -> list[Object]:
    """The claim, the ConfigMap and the Job that the example for a cluster makes."""
    printed = subprocess.run([sys.executable, _SCRIPT, *_SIZES], check=True, stdout=subprocess.PIPE).stdout
    return list(json.loads(printed)["items"])


def _reader(job: Object) -> Object:
    """A pod like that of the Job which fills the claim; it stays."""
    spec = job["spec"]["template"]["spec"]
    [container] = spec["containers"]
    waiting = container | {"name": _READER, "command": ["sleep", "infinity"]}
    kept = spec | {"containers": [waiting], "terminationGracePeriodSeconds": 0}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": _READER}, "spec": kept}

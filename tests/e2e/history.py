"""Every status that jobs had, also those that lasted for a moment: what `kubectl get --watch` shows."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zerotune_devtools import chart
from zerotune_devtools.harness.kubectl import Namespace, Object


class History:
    """What was seen of the jobs of a namespace.

    Args:
        path: Where kubectl writes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def statuses(self, name: str) -> list[Object]:
        """Every status of a job, oldest first."""
        return [job.get("status", {}) for job in self._seen() if job["metadata"]["name"] == name]

    def _seen(self) -> Iterator[Object]:
        text, decoder = self._path.read_text().lstrip(), json.JSONDecoder()
        while text:
            try:
                found, end = decoder.raw_decode(text)
            except json.JSONDecodeError:
                return  # The last one is being written.
            yield found
            text = text[end:].lstrip()


@contextmanager
def watched(namespace: Namespace, kind: str) -> Iterator[History]:
    """Watch the jobs of a kind until the end of the block."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "seen")
        command = chart.kubectl_command("--namespace", namespace.name, "get", kind, "--watch", "--output=json")
        with path.open("wb") as output:
            process = subprocess.Popen(command, stdout=output)
        try:
            yield History(path)
        finally:
            process.terminate()
            process.wait()

"""Makes persistent volumes for claims of the storage class `standard`: a folder each, open to every user.

What kind's local-path provisioner does, without pods of its own. A volume goes when its claim goes.

    python volumes.py ROOT              (a component of the test bed, started by node.py)
"""

from __future__ import annotations

import http.client
import json
import shutil
import ssl
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zerotune_devtools.bed import settings

STORAGE_CLASS = "standard"
_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"


def main() -> None:
    """Serve claims until the API server ends the watch; node.py starts this anew then."""
    provisioner = Provisioner(settings.Folders(Path(sys.argv[1])))
    provisioner.create_class()
    provisioner.serve()


class Provisioner:
    """Volumes below one folder, for the cluster of one API server."""

    def __init__(self, folders: settings.Folders) -> None:
        self._folder = folders.volumes
        self._context = ssl.create_default_context(cafile=str(folders.pki / "ca.crt"))
        self._context.load_cert_chain(folders.pki / "admin.crt", folders.pki / "admin.key")

    def create_class(self) -> None:
        """The storage class, as the cluster's default one. Waits for the API server."""
        metadata = {"name": STORAGE_CLASS, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
        body = {"metadata": metadata, "provisioner": "zerotune.dev/test-bed", "volumeBindingMode": "Immediate"}
        while True:
            try:
                self._call("POST", _CLASSES, body)
            except OSError:
                time.sleep(0.3)
            else:
                return

    def serve(self) -> None:
        """Make volumes for what is claimed and delete those whose claim is deleted, until the watch ends."""
        listed = self._call("GET", _CLAIMS)
        for claim in listed["items"]:
            self._make(claim)
        claimed = {claim["metadata"]["uid"] for claim in listed["items"]}
        for folder in self._folder.iterdir():
            if folder.name not in claimed:
                self._drop(folder.name)
        for event in self._watch(listed["metadata"]["resourceVersion"]):
            claim = event["object"]
            if event["type"] == "DELETED":
                self._drop(claim["metadata"]["uid"])
            elif event["type"] == "ADDED":
                self._make(claim)

    def _make(self, claim: dict[str, Any]) -> None:
        spec, metadata = claim["spec"], claim["metadata"]
        if spec.get("storageClassName") != STORAGE_CLASS or spec.get("volumeName"):
            return
        folder = self._folder / metadata["uid"]
        folder.mkdir(exist_ok=True)
        # Pods run as users of their own, and a host path knows no fsGroup.
        folder.chmod(0o777)
        owner = {key: metadata[key] for key in ("namespace", "name", "uid")}
        volume = {
            "capacity": spec["resources"]["requests"],
            "accessModes": spec["accessModes"],
            "storageClassName": STORAGE_CLASS,
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": owner | {"apiVersion": "v1", "kind": "PersistentVolumeClaim"},
        }
        self._call("POST", _VOLUMES, {"metadata": {"name": f"pvc-{metadata['uid']}"}, "spec": volume})

    def _drop(self, uid: str) -> None:
        if (self._folder / uid).exists():
            self._call("DELETE", f"{_VOLUMES}/pvc-{uid}")
            shutil.rmtree(self._folder / uid)

    def _watch(self, version: str) -> Iterator[dict[str, Any]]:
        connection = self._connect()
        connection.request("GET", f"{_CLAIMS}?watch=1&resourceVersion={version}")
        for line in connection.getresponse():
            yield json.loads(line)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The answer; raises RuntimeError on a rejection, but for what exists already or is deleted already."""
        connection = self._connect()
        text = json.dumps(body) if body else None
        connection.request(method, path, text, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer: dict[str, Any] = json.load(response)
        connection.close()
        done_before = {"POST": http.HTTPStatus.CONFLICT, "DELETE": http.HTTPStatus.NOT_FOUND}
        if response.status >= http.HTTPStatus.BAD_REQUEST and response.status != done_before.get(method):
            raise RuntimeError(f"{method} {path}: {response.status} {answer.get('message')}")
        return answer

    def _connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(settings.NODE_ADDRESS, 6443, context=self._context)


if __name__ == "__main__":
    main()

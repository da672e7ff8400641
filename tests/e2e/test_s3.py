"""Model, data and output on S3, with keys from a Secret that nobody but the pods gets to see."""

from __future__ import annotations

import hashlib
import json

import pytest

from tests.e2e.object_store import BUCKET, ObjectStore
from tests.e2e.s3_jobs import STEPS, files, s3_job, secret
from zerotune_devtools.harness.installation import Installation
from zerotune_devtools.harness.jobs import one_rank
from zerotune_devtools.harness.kubectl import Namespace, Object

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def test_the_result_is_in_the_bucket_and_complete(on_s3: Object, store: ObjectStore) -> None:
    output = on_s3["output"]
    assert (output["uri"], output["step"]) == (f"s3://{BUCKET}/output/on-s3", STEPS)
    manifest = json.loads(store.get("output/on-s3/manifest.json"))
    digests = {each["path"]: each["sha256"] for each in manifest["files"]}
    assert "model.safetensors" in digests
    assert {path: hashlib.sha256(content).hexdigest() for path, content in files(store, "on-s3").items()} == digests


def test_the_keys_are_in_the_secret_and_nowhere_else(
    on_s3: Object, store: ObjectStore, installation: Installation
) -> None:
    namespace = installation.jobs
    [pod] = namespace.list("pods", "zerotune.dev/job-name=on-s3,batch.kubernetes.io/job-completion-index=0")
    [container] = pod["spec"]["containers"]
    sources = [each["valueFrom"].get("secretKeyRef") for each in container["env"] if "valueFrom" in each]
    assert {source["name"] for source in sources if source} == {"s3-keys"}
    assert "envFrom" not in container
    printed = {
        "objects": namespace.kubectl("get", "ftj,jobs,pods,configmaps,services,events", "-o", "yaml"),
        "described": namespace.kubectl("describe", "ftj,jobs,pods,configmaps,events"),
        "log of the pods": _logs(namespace, "zerotune.dev/job-name=on-s3"),
        "log of the operator": _logs(installation.system, "app.kubernetes.io/name=zerotune"),
    }
    assert all("on-s3" in text for text in printed.values())
    for where, text in printed.items():
        assert store.secret_key not in text, where
        assert store.access_key not in text, where
    for path, content in files(store, "on-s3").items():
        assert store.secret_key.encode() not in content, path
        assert store.access_key.encode() not in content, path


def test_wrong_keys_are_reported_as_such_at_once(store: ObjectStore, namespace: Namespace) -> None:
    wrong = store.environment() | {"AWS_SECRET_ACCESS_KEY": "not-the-key"}
    namespace.apply(secret("wrong-keys", wrong), s3_job("locked-out", "wrong-keys", topology=one_rank()))
    status = namespace.phase("ftj/locked-out", "Failed")
    cause = status["rootCause"]
    assert (cause["class"], cause["exitCode"]) == ("Configuration", 64)
    assert f"s3://{BUCKET}/model" in cause["message"]
    assert "access denied" in cause["message"]
    assert "a Secret named by `credentials`" in cause["hint"]
    assert not status.get("attempts")


def _logs(namespace: Namespace, selector: str) -> str:
    return namespace.kubectl("logs", f"--selector={selector}", "--tail=-1", "--all-containers")

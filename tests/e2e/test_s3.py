"""Model, data and output on S3, with keys from a Secret that nobody but the pods gets to see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator

import pytest
from small_model import save_model

from tests.e2e.object_store import BUCKET, ObjectStore, object_store
from zerotune_devtools.bed.settings import HOST_ADDRESS, NODE_NAME
from zerotune_devtools.harness.installation import Installation
from zerotune_devtools.harness.jobs import fine_tune_job, one_rank
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import data

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
_STEPS = 4
_SECRET = "s3-keys"


@pytest.fixture(scope="module")
def store(namespace: Namespace, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store with model and data."""
    if not namespace.get(f"node/{NODE_NAME}"):
        pytest.skip(f"only pods of the test bed are known to reach this machine, at {HOST_ADDRESS}")
    folder = tmp_path_factory.mktemp("store")
    texts = data()["cpt-train.jsonl"]
    save_model(folder / "model", [json.loads(line)["text"] for line in texts.splitlines()])
    with object_store(HOST_ADDRESS, folder / "log") as made:
        made.put_folder("model", folder / "model")
        made.put("data/train.jsonl", texts.encode())
        yield made


@pytest.fixture(scope="module")
def trained(store: ObjectStore, namespace: Namespace) -> Object:
    """Status of a job that read and wrote there."""
    namespace.apply(_secret(_SECRET, store.environment()), _job("on-s3", _SECRET))
    return namespace.phase("ftj/on-s3", "Succeeded")


def test_the_result_is_in_the_bucket_and_complete(trained: Object, store: ObjectStore) -> None:
    output = trained["output"]
    assert (output["uri"], output["step"]) == (f"s3://{BUCKET}/output/on-s3", _STEPS)
    manifest = json.loads(store.get("output/on-s3/manifest.json"))
    digests = {each["path"]: each["sha256"] for each in manifest["files"]}
    assert "model.safetensors" in digests
    assert {path: hashlib.sha256(content).hexdigest() for path, content in _files(store).items()} == digests


def test_the_keys_are_in_the_secret_and_nowhere_else(
    trained: Object, store: ObjectStore, installation: Installation
) -> None:
    namespace = installation.jobs
    [pod] = namespace.list("pods", "zerotune.dev/job-name=on-s3,batch.kubernetes.io/job-completion-index=0")
    [container] = pod["spec"]["containers"]
    sources = [each["valueFrom"].get("secretKeyRef") for each in container["env"] if "valueFrom" in each]
    assert {source["name"] for source in sources if source} == {_SECRET}
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
    for path, content in _files(store).items():
        assert store.secret_key.encode() not in content, path
        assert store.access_key.encode() not in content, path


def test_wrong_keys_are_reported_as_such_at_once(store: ObjectStore, namespace: Namespace) -> None:
    wrong = store.environment() | {"AWS_SECRET_ACCESS_KEY": "not-the-key"}
    namespace.apply(_secret("wrong-keys", wrong), _job("locked-out", "wrong-keys"))
    status = namespace.phase("ftj/locked-out", "Failed")
    cause = status["rootCause"]
    assert (cause["class"], cause["exitCode"]) == ("Configuration", 64)
    assert f"s3://{BUCKET}/model" in cause["message"]
    assert "access denied" in cause["message"]
    assert "a Secret named by `credentials`" in cause["hint"]
    assert not status.get("attempts")


def _files(store: ObjectStore) -> dict[str, bytes]:
    """The files that the manifest of the result lists."""
    manifest = json.loads(store.get("output/on-s3/manifest.json"))
    return {each["path"]: store.get(f"output/on-s3/{each['path']}") for each in manifest["files"]}


def _job(name: str, secret: str) -> Object:
    keys = {"credentials": {"secretName": secret}}
    return fine_tune_job(
        name,
        model={"uri": f"s3://{BUCKET}/model", **keys},
        data={
            "train": {"uris": [f"s3://{BUCKET}/data/train.jsonl"]},
            "columns": {"text": "text"},
            "maxLength": 64,
            **keys,
        },
        training={"globalBatchSize": 1, "maxSteps": _STEPS},
        topology=one_rank(),
        checkpoint={"saveSteps": _STEPS},
        output={"uri": f"s3://{BUCKET}/output/{name}", **keys},
    )


def _secret(name: str, values: dict[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def _logs(namespace: Namespace, selector: str) -> str:
    return namespace.kubectl("logs", f"--selector={selector}", "--tail=-1", "--all-containers")

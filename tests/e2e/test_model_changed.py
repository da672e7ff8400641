"""A model that a job of the namespace has read is not read again for the next; where it has changed, it is."""

from __future__ import annotations

import pytest

from zerotune_devtools.harness.jobs import FOLDER, fine_tune_job, one_rank
from zerotune_devtools.harness.kubectl import Namespace, Object
from zerotune_devtools.harness.volume import CLAIM, Volume

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
_MODEL, _CONTEXT = "borrowed", 128


def test_a_model_that_has_changed_is_noticed_and_planned_for_anew(namespace: Namespace, volume: Volume) -> None:
    volume.run(f"cp -r /{CLAIM}/model /{CLAIM}/{_MODEL}")
    first = _run(namespace, "reads")
    second = _run(namespace, "borrows")
    volume.run(f'sed -i \'s/"max_position_embeddings": [0-9]*/"max_position_embeddings": {_CONTEXT}/\' {_CONFIG}')
    third = _run(namespace, "notices")

    assert _is_inspected(namespace) == {"reads", "notices"}
    assert second["model"] == first["model"]
    assert [each["outcome"] for each in second["attempts"]] == ["Succeeded"]
    failed, succeeded = third["attempts"]
    assert (failed["failureClass"], succeeded["outcome"]) == ("ModelChanged", "Succeeded")
    assert third["model"] == first["model"] | {"context": _CONTEXT}
    [message] = [event["message"] for event in namespace.list("events") if "ModelChanged" in event["message"]]
    assert f"pvc://{CLAIM}/{_MODEL} is another model" in message
    assert f"context {_CONTEXT} instead of {first['model']['context']}" in message


_CONFIG = f"/{CLAIM}/{_MODEL}/config.json"


def _run(namespace: Namespace, name: str) -> Object:
    training = {"globalBatchSize": 1, "maxSteps": 1}
    model = {"uri": f"{FOLDER}/{_MODEL}"}
    namespace.apply(fine_tune_job(name, model=model, training=training, topology=one_rank()))
    return namespace.phase(f"ftj/{name}", "Succeeded")


def _is_inspected(namespace: Namespace) -> set[str]:
    """The jobs of this file for which a pod has read the model."""
    found = namespace.list("jobs", "app.kubernetes.io/component=inspection")
    names = {each["metadata"]["labels"]["zerotune.dev/job-name"] for each in found}
    return names & {"reads", "borrows", "notices"}

"""What lets a job read what takes a token of the Hub, by where the job runs."""

from __future__ import annotations

import httpx
import pytest
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.storage import hub_errors

REJECTED = httpx.Response(401, request=httpx.Request("GET", "http://hub/org/model"))
REMEDIES = [
    ("KUBERNETES_SERVICE_HOST", "give a Secret with HF_TOKEN, named by `model.credentials`"),
    ("TRAINING_JOB_NAME", "copy it to S3 and name it as s3://: a training job has no token of the hub"),
    ("ANY", "set HF_TOKEN in the environment to a token of an account that may read it"),
]


@pytest.mark.parametrize(("variable", "remedy"), REMEDIES)
def test_the_remedy_is_one_of_where_the_job_runs(monkeypatch: pytest.MonkeyPatch, variable: str, remedy: str) -> None:
    monkeypatch.setenv(variable, "a")
    with pytest.raises(ConfigurationError) as gated, hub_errors("hf://org/model", None, "model"):
        raise GatedRepoError("gated", response=REJECTED)
    with pytest.raises(InputMissingError) as private, hub_errors("hf://org/model", None, "model"):
        raise RepositoryNotFoundError("not found", response=REJECTED)
    assert gated.value.hint == f"accept its terms on the hub, then {remedy}"
    assert private.value.hint == f"check the name; for a private one, {remedy}"

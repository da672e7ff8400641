"""Jobs, and the objects that the Kubernetes backend makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import load_jobs, parse_job
from zerotune_operator.backends.kubernetes.layout import place
from zerotune_operator.backends.kubernetes.pod_policy import ANY_NAMES
from zerotune_operator.backends.kubernetes.render import Installation, Manifests, Object, render
from zerotune_operator.backends.model_shape import shape_of_file
from zerotune_operator.plan import plan_job
from zerotune_trainer.config import JobIdentity

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden"
EXAMPLES = ROOT / "crds" / "examples"
INSTALLATION = Installation(trainer_image="zerotune.dev/trainer:0.1.0", pod_policy=ANY_NAMES)
UID = "0b4c3a6e-2f0e-4d6a-8a3e-3f2f9f1d7c55"

CASES = {
    "cpt": (EXAMPLES / "cpt.yaml", "hf://HuggingFaceTB/SmolLM2-135M", "tiny-llama"),
    "sft": (EXAMPLES / "sft.yaml", "s3://security-models/weaknesses", "llama-3.1-8b"),
    "infer-transformers": (EXAMPLES / "infer-transformers.yaml", "pvc://models/log-analyst", "llama-3.1-8b"),
    "all-options": (GOLDEN / "kubernetes" / "all-options.job.yaml", "pvc://models/base", "tiny-llama"),
}
"""By name of the golden file: the job, the model it starts from, and a model of that shape."""


def job_of(case: str) -> Job:
    (job,) = load_jobs(CASES[case][0])
    return job.model_copy(update={"metadata": job.metadata.model_copy(update={"uid": job.metadata.uid or UID})})


def attempt_of(job: Job, model_uri: str, shape: str = "tiny-llama", attempt: int = 0) -> Manifests:
    """What is rendered for an attempt of a job."""
    identity = JobIdentity(kind=job.kind, name=job.metadata.name, uid=job.metadata.uid, attempt=attempt)
    model = shape_of_file(GOLDEN / "plan" / "models" / f"{shape}.json")
    return render(plan_job(job, model, place(job, attempt, model_uri), identity), job, INSTALLATION)


def rendered(case: str) -> Manifests:
    _, model_uri, shape = CASES[case]
    return attempt_of(job_of(case), model_uri, shape)


def tuned(name: str = "tune", attempt: int = 0, **spec: Any) -> Manifests:
    """What is rendered for a small FineTuneJob with these parts of a spec."""
    job = fine_tune_job(name, **spec)
    return attempt_of(job, str(job.spec.model.uri), attempt=attempt)


def fine_tune_job(name: str = "tune", **spec: Any) -> Job:
    return _job("FineTuneJob", name, {"method": "sft", "data": {"train": {"uris": ["s3://ddd/d.jsonl"]}}, **spec})


def inference_job(name: str = "tune", **spec: Any) -> Job:
    return _job("InferenceJob", name, {"data": {"uris": ["s3://ddd/d.jsonl"]}, **spec})


def _job(kind: str, name: str, spec: dict[str, Any]) -> Job:
    return parse_job(
        {
            "apiVersion": "zerotune.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "uid": UID},
            "spec": {"model": {"uri": "s3://mmm/m"}, "output": {"uri": "s3://rrr/r"}, **spec},
        }
    )


def pod_spec(job: Object) -> Object:
    """The pods of an object of kind Job."""
    spec: Object = job["spec"]["template"]["spec"]
    return spec


def trainer(job: Object) -> Object:
    """The container of those pods that does the work."""
    (container,) = (each for each in pod_spec(job)["containers"] if each["name"] == "trainer")
    found: Object = container
    return found


class _Literal(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Literal.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def as_yaml(objects: list[Object]) -> str:
    return yaml.dump_all(objects, Dumper=_Literal, sort_keys=False, allow_unicode=True, width=120)


def secret_keys(made: Object) -> dict[str, tuple[str, bool]]:
    """The variables of the container that come from Secrets: of which one, and whether a pod waits for the key."""
    sources = [each for each in trainer(made)["env"] if "secretKeyRef" in each.get("valueFrom", {})]
    found = {each["name"]: each["valueFrom"]["secretKeyRef"] for each in sources}
    assert all(name == key["key"] for name, key in found.items())
    assert len(found) == len(sources)
    return {name: (key["name"], not key.get("optional", False)) for name, key in found.items()}

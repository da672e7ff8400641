"""The examples are valid, or say exactly what this version does not support."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerotune_operator.api.load import InvalidManifestError, load_jobs

EXAMPLES = Path(__file__).parents[3] / "crds" / "examples"
LATER = "is not supported by this version of zerotune:"

REJECTED = {
    "infer-deepspeed.yaml": [
        f"spec.engine is 'deepspeed': engine deepspeed {LATER} use transformers, zero or auto",
        f"spec.parallelism.tensor is 4: parallelism.tensor above 1 {LATER} leave it out, or set it to 1",
    ],
}
ACCEPTED = {
    "cpt.yaml": "weaknesses",
    "sft.yaml": "log-analyst",
    "lora.yaml": "alert-adapter",
    "infer-transformers.yaml": "alert-triage",
    "infer-zero.yaml": "firewall-logs",
    "sagemaker.yaml": "log-analyst-spot",
    "distill.yaml": "alert-student",
    "dpo.yaml": "cve-preferences",
    "orpo.yaml": "remediation-preferences",
    "kto.yaml": "phishing-verdicts",
    "script.yaml": "own-objective",
}


def test_there_is_one_for_each_method_and_engine_and_one_for_sagemaker() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == REJECTED.keys() | ACCEPTED.keys()


@pytest.mark.parametrize(("file", "name"), ACCEPTED.items())
def test_accepted(file: str, name: str) -> None:
    (job,) = load_jobs(EXAMPLES / file)
    assert job.metadata.name == name


@pytest.mark.parametrize(("file", "messages"), REJECTED.items())
def test_rejected(file: str, messages: list[str]) -> None:
    with pytest.raises(InvalidManifestError) as caught:
        load_jobs(EXAMPLES / file)
    assert [str(problem) for problem in caught.value.problems] == messages
    assert "NOT CARRIED OUT YET" in (EXAMPLES / file).read_text()


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_commented(path: Path) -> None:
    assert path.read_text().startswith("# ")

"""The examples are valid, or say exactly what this version does not support."""

from __future__ import annotations

from pathlib import Path

import pytest

from zerotune_operator.api.load import load_jobs

EXAMPLES = Path(__file__).parents[3] / "crds" / "examples"
ACCEPTED = {
    "cpt.yaml": "weaknesses",
    "sft.yaml": "log-analyst",
    "lora.yaml": "alert-adapter",
    "infer-transformers.yaml": "alert-triage",
    "infer-deepspeed.yaml": "malware-reports",
    "infer-zero.yaml": "firewall-logs",
    "infer-zero-nvme.yaml": "firewall-logs-overnight",
    "infer-vllm.yaml": "cwe-answers-vllm",
    "infer-replicas.yaml": "report-triage",
    "score.yaml": "phishing-scores",
    "embed.yaml": "alert-vectors",
    "sagemaker.yaml": "log-analyst-spot",
    "sagemaker-instance-types.yaml": "log-analyst-capacity",
    "sagemaker-channels.yaml": "log-analyst-channels",
    "sagemaker-infer.yaml": "alert-triage-spot",
    "distill.yaml": "alert-student",
    "dpo.yaml": "cve-preferences",
    "orpo.yaml": "remediation-preferences",
    "kto.yaml": "phishing-verdicts",
    "script.yaml": "own-objective",
    "plugin.yaml": "triage-focal",
}


def test_every_example_is_listed() -> None:
    assert {path.name for path in EXAMPLES.iterdir()} == ACCEPTED.keys()


@pytest.mark.parametrize(("file", "name"), ACCEPTED.items())
def test_accepted(file: str, name: str) -> None:
    (job,) = load_jobs(EXAMPLES / file)
    assert job.metadata.name == name


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_commented(path: Path) -> None:
    assert path.read_text().startswith("# ")

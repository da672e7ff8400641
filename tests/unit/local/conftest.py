"""A home for local jobs, and jobs to put there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import parse_job
from zerotune_operator.backends.local.home import Home

LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 512,
    "max_position_embeddings": 256,
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("ZEROTUNE_HOME", str(tmp_path / "home"))
    return Home.of_environment()


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A FineTuneJob as written, with further parts of its spec."""
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(LLAMA))

    def make(name: str = "cwe", **spec: Any) -> dict[str, Any]:
        parts = {
            "method": "cpt",
            "model": {"uri": model.as_uri()},
            "data": {"train": {"uris": ["file:///data/a.jsonl"]}, "maxLength": 64},
            "training": {"globalBatchSize": 4},
        }
        return {
            "apiVersion": "zerotune.dev/v1alpha1",
            "kind": "FineTuneJob",
            "metadata": {"name": name},
            "spec": parts | spec,
        }

    return make


@pytest.fixture
def job(manifest: Callable[..., dict[str, Any]]) -> Callable[..., Job]:
    """The FineTuneJob of `manifest`."""
    return lambda *name, **spec: parse_job(manifest(*name, **spec))


@pytest.fixture
def inference() -> Callable[[str], Job]:
    """An InferenceJob over the output of a FineTuneJob."""

    def make(source: str) -> Job:
        return parse_job(
            {
                "apiVersion": "zerotune.dev/v1alpha1",
                "kind": "InferenceJob",
                "metadata": {"name": "answers"},
                "spec": {"model": {"fromFineTuneJob": source}, "data": {"uris": ["file:///data/q.jsonl"]}},
            }
        )

    return make

"""Trackers and optimizers whose packages are missing where a job is to run are rejected before it does."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import parse_job
from zerotune_operator.backends.check import check
from zerotune_operator.backends.registry import Target
from zerotune_trainer.config.adapter import Adapter
from zerotune_trainer.config.arguments import known
from zerotune_trainer.config.packages import OWN_PACKAGES, REPORTERS, missing_packages, require_adapter
from zerotune_trainer.errors import ConfigurationError

REQUIREMENTS = Path(__file__).parents[3] / "requirements" / "trainer.txt"


def job(arguments: dict[str, Any], backend: dict[str, Any], **more: Any) -> Job:
    spec = {
        "method": "cpt",
        "model": {"uri": "s3://models/m"},
        "data": {"train": {"uris": ["s3://data/d"]}},
        "training": {"arguments": arguments},
        "zero": {"stage": 2},
        "output": {"uri": "s3://models/o"},
        "backend": backend,
        **more,
    }
    header = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": "j"}}
    return parse_job(header | {"spec": spec})


def inference(backend: dict[str, Any]) -> Job:
    spec = {
        "model": {"uri": "s3://models/m"},
        "engine": "vllm",
        "data": {"uris": ["s3://data/d"]},
        "output": {"uri": "s3://models/o"},
        "backend": backend,
    }
    header = {"apiVersion": "zerotune.dev/v1alpha1", "kind": "InferenceJob", "metadata": {"name": "j"}}
    return parse_job(header | {"spec": spec})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"report_to": "comet_ml"}, "report_to is 'comet_ml', which needs the Python package comet_ml: leave it out"),
        ({"report_to": ["none", "clearml"]}, "'clearml', which needs the Python package clearml"),
        ({"optim": "lomo"}, "optim is 'lomo', which needs the Python package lomo_optim"),
        ({"optim": "galore_adamw_8bit"}, "needs the Python package galore_torch"),
        ({"optim": "adamw_torch_8bit"}, "needs the Python package torchao"),
    ],
)
@pytest.mark.parametrize(
    ("target", "backend", "remedy"),
    [
        (Target.KUBERNETES, {}, "in backend.kubernetes.image"),
        (Target.LOCAL, {}, "run `pip install "),
    ],
)
def test_a_missing_package_is_named_with_the_remedy(
    arguments: dict[str, Any], message: str, target: Target, backend: dict[str, Any], remedy: str
) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)) as rejected:
        check(job(arguments, backend), target)
    assert remedy in str(rejected.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["wandbb"], "report_to is 'wandbb', to which transformers does not report: did you mean wandb?"),
        ("https://track.example", "use one of none, all, kubeflow"),
        (3, "array"),
        ([1], "report_to is 1, to which transformers does not report"),
    ],
)
def test_a_tracker_that_transformers_does_not_know_is_rejected(value: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        job({"report_to": value}, {})


@pytest.mark.parametrize(
    ("target", "remedy"), [(Target.KUBERNETES, "in backend.kubernetes.image"), (Target.LOCAL, "run `pip install vllm`")]
)
def test_an_engine_whose_package_is_missing_is_rejected(target: Target, remedy: str) -> None:
    message = "spec.engine is 'vllm', which needs the Python package vllm: take another engine, or "
    with pytest.raises(ConfigurationError, match=re.escape(message)) as rejected:
        check(inference({}), target)
    assert remedy in str(rejected.value)
    check(inference({"kubernetes": {"image": "registry.example/own:1"}}), Target.KUBERNETES)


def test_an_image_of_the_users_may_have_every_package() -> None:
    own = {"kubernetes": {"image": "registry.example/own:1"}}
    check(job({"report_to": ["wandb", "mlflow"], "optim": "paged_adamw_8bit"}, own), Target.KUBERNETES)


def test_what_torch_and_the_trainer_bring_along_is_accepted() -> None:
    for optimizer in ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd", "adagrad", "rmsprop", "adamw_bnb_8bit"):
        check(job({"report_to": "none", "optim": optimizer}, {}), Target.KUBERNETES)
    for target in (Target.KUBERNETES, Target.LOCAL):
        check(job({}, {}, adapter={"type": "qlora"}), target)


def test_qlora_without_bitsandbytes_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this machine, and by the ranks in an image of the user's, before they meet."""
    own = Adapter(type="qlora", quantization="int8")
    require_adapter(own)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    message = "spec.adapter.type is 'qlora', which needs the Python package bitsandbytes: use lora, or "
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        check(job({}, {}, adapter={"type": "qlora"}), Target.LOCAL)
    check(job({}, {}, adapter={"type": "lora"}), Target.LOCAL)
    with pytest.raises(ConfigurationError, match="bitsandbytes, and this image has none"):
        require_adapter(own)
    require_adapter(None)


def test_the_trainers_image_has_those_of_the_packages_that_are_taken_for_granted() -> None:
    trackers = {each.module for each in missing_packages({"report_to": list(REPORTERS)}, lambda _: False)}
    installed = {line.partition("==")[0].replace("-", "_") for line in REQUIREMENTS.read_text().splitlines()}
    choices = known()["optim"].choices or []
    needed = {each.module for name in choices for each in missing_packages({"optim": name}, lambda _: False)}
    assert {"bitsandbytes", "torchao", "lomo_optim"} <= needed
    assert (needed | trackers) & installed == OWN_PACKAGES

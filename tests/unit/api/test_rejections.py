"""Rows and defects of the toolkit we replace: what it noticed late, or never, is rejected before anything starts."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from zerotune_operator.api.load import InvalidManifestError, load_jobs, parse_job

EXAMPLES = Path(__file__).parents[3] / "crds" / "examples"

TRAINING: dict[str, Any] = {
    "apiVersion": "zerotune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "job"},
    "spec": {"method": "sft", "model": {"uri": "hf://a/b"}, "data": {"train": {"uris": ["s3://aaa/b.jsonl"]}}},
}


def _spec(**parts: Any) -> dict[str, Any]:
    manifest = copy.deepcopy(TRAINING)
    manifest["spec"] |= parts
    return manifest


def _rejection(manifest: dict[str, Any]) -> list[str]:
    with pytest.raises(InvalidManifestError) as caught:
        parse_job(manifest)
    return [str(problem) for problem in caught.value.problems]


def test_r15_one_field_selects_the_method_and_d17_an_unknown_one_is_rejected() -> None:
    assert parse_job(_spec(method="cpt")).spec.method == "cpt"  # type: ignore[union-attr]
    assert _rejection(_spec(method="ppo")) == [
        (
            "spec.method is 'ppo' (text), must be one of cpt, sft, dpo, orpo, kto, script; methods that "
            "generate while they train are not supported: dpo, orpo and kto learn from given answers"
        )
    ]


def test_r17_every_unknown_argument_is_named_at_once() -> None:
    place = "spec.training.arguments"
    arguments = {"lerning_rate": 1, "fp16": True, "report_to": "none"}
    assert _rejection(_spec(training={"arguments": arguments})) == [
        f"{place}.lerning_rate is not a field of transformers' TrainingArguments: did you mean training.learningRate?",
        f"{place}.fp16 has its own place: use training.precision",
    ]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 10**400], ids=["over", "under", "beyond any float"])
def test_an_integer_of_more_than_64_bits_is_rejected_wherever_it_is(number: int) -> None:
    """The API server makes a float of it, or rejects it; the rules cannot be evaluated for it."""
    places: list[tuple[str, dict[str, Any]]] = [
        ("checkpoint.saveSteps", {"checkpoint": {"saveSteps": number}}),
        ("training.lrSchedulerKwargs.power", {"training": {"lrSchedulerKwargs": {"power": number}}}),
        ("deepspeed.a[0]", {"deepspeed": {"a": [number]}}),
    ]
    for place, fields in places:
        (problem,) = _rejection(_spec(**fields))
        assert problem.startswith(f"spec.{place} is a number of more than 64 bits: give a smaller one")


@pytest.mark.parametrize("name", ["auto", "eager", "sdpa"])
def test_r20_attention_can_be_chosen(name: str) -> None:
    model = {"uri": "hf://a/b", "attnImplementation": name}
    assert parse_job(_spec(model=model)).spec.model.attn_implementation == name


def test_r20_flash_attention_goes_with_gpus() -> None:
    model = {"uri": "hf://a/b", "attnImplementation": "flash_attention_2"}
    assert (
        parse_job(_spec(model=model, topology={"gpusPerNode": 1})).spec.model.attn_implementation
        == model["attnImplementation"]
    )
    (message,) = _rejection(_spec(model=model))
    assert message == (
        "spec.model.attnImplementation is 'flash_attention_2': flash_attention_2 needs GPUs: set topology.gpusPerNode, "
        "or use auto, sdpa or eager"
    )


def test_r20_remote_code_is_off_unless_allowed() -> None:
    assert parse_job(_spec()).spec.model.trust_remote_code is False
    assert parse_job(_spec(model={"uri": "hf://a/b", "trustRemoteCode": True})).spec.model.trust_remote_code is True


@pytest.mark.parametrize("stage", ["auto", 3])
@pytest.mark.parametrize("optim", ["adamw_bnb_8bit", "adamw_8bit", "paged_adamw_32bit", "lion_8bit", "rmsprop_bnb"])
def test_r30_bitsandbytes_under_stage_3_is_rejected(stage: object, optim: str) -> None:
    (message,) = _rejection(_spec(zero={"stage": stage}, training={"arguments": {"optim": optim}}))
    assert message.startswith(
        f"spec.training.arguments.optim is {optim!r}: zero.stage 3, which auto may choose, cannot"
    )
    assert message.endswith("set zero.stage to 0, 1 or 2, or leave optim out")


@pytest.mark.parametrize("stage", ["auto", 0, 1, 2])
def test_d10_r30_a_quantized_base_is_accepted_below_stage_3_alone(stage: object) -> None:
    parse_job(_spec(zero={"stage": stage}, adapter={"type": "qlora"}))
    (message,) = _rejection(_spec(zero={"stage": 3}, adapter={"type": "qlora"}))
    assert message.startswith("spec.zero.stage is 3: zero.stage 3 partitions parameters, and a quantized base is whole")
    (message,) = _rejection(_spec(zero={"offloadParam": "cpu"}, adapter={"type": "qlora"}))
    assert message.startswith("spec.zero.offloadParam is 'cpu': offloadParam goes with zero.stage 3, and a quantized")


def test_r30_plain_optimizers_are_not() -> None:
    for optim in ("adamw_torch", "adamw_torch_fused", "adafactor", "sgd"):
        parse_job(_spec(zero={"stage": 3}, training={"arguments": {"optim": optim}}))


@pytest.mark.parametrize("strategy", ["group_by_length", "batch_rebalance"])
def test_r37_packing_with_grouping_by_length_is_rejected(strategy: str) -> None:
    training = {"arguments": {"train_sampling_strategy": strategy}}
    data = TRAINING["spec"]["data"]
    for parts in ({"data": data | {"packing": "wrapped"}}, {"method": "cpt"}):
        (message,) = _rejection(_spec(training=training, **parts))
        assert message.startswith(f"spec.training.arguments.train_sampling_strategy is {strategy!r}: ")
        assert "set data.packing: none" in message
    parse_job(_spec(training=training))


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("doSample", "False", "is 'False' (text), must be true or false: write it without quotes"),
        ("topK", "5", "is '5' (text), must be a whole number: write it without quotes"),
        ("topP", "0.5", "is '0.5' (text), must be a number: write it without quotes"),
    ],
)
def test_d24_options_as_text_never_reach_the_tokenizer_or_model(field: str, text: str, message: str) -> None:
    (job,) = load_jobs(EXAMPLES / "infer-transformers.yaml")
    manifest = job.model_dump(mode="json", by_alias=True, exclude_unset=True)
    manifest["spec"]["generation"] = {field: text}
    assert _rejection(manifest) == [f"spec.generation.{field} {message}"]

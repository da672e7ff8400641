"""The modules that an adapter names are those of the model in transformers, and its rank is one that they can have."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.unit.plan.conftest import GOLDEN, PlanOf
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.adapter import ALL_LINEAR
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.modules import MODULES
from zerotune_trainer.sizing.shape import read_shape


def lora(**fields: Any) -> dict[str, Any]:
    return {"type": "lora", **fields}


def test_d11_an_adapter_has_a_rank_and_lies_on_all_linear_modules_by_default(plan_training: PlanOf) -> None:
    plan = plan_training(adapter=lora())
    assert isinstance(plan.config, TrainConfig)
    assert plan.config.adapter is not None
    assert plan.config.adapter.r > 0
    assert plan.config.adapter.target_modules == [ALL_LINEAR]


@pytest.mark.parametrize(
    "names",
    [
        {"targetModules": ["q_proj", "self_attn.v_proj", "model.layers.1.mlp.up_proj"]},
        {"modulesToSave": ["embed_tokens", "lm_head", "norm", "layers.0", "self_attn"]},
        {"targetModules": ["all-linear"]},
    ],
)
def test_modules_that_the_model_has_are_planned(plan_training: PlanOf, names: dict[str, Any]) -> None:
    assert plan_training(adapter=lora(**names)).workload is not None


@pytest.mark.parametrize("name", ["proj", "model.layers.99.mlp.up_proj", "layers.*.mlp.up_proj", "norm", "self_attn"])
def test_a_name_on_which_no_adapter_can_lie_is_rejected(plan_training: PlanOf, name: str) -> None:
    with pytest.raises(ConfigurationError, match="has no such module") as caught:
        plan_training(adapter=lora(targetModules=["q_proj", name]))
    assert f"targetModules names {name!r}" in caught.value.message


def test_modules_of_code_that_the_model_brings_are_not_judged(plan_training: PlanOf) -> None:
    model = {"uri": "s3://models/m", "trustRemoteCode": True}
    assert plan_training(adapter=lora(targetModules=["wqkv"]), model=model).workload is not None


def test_modules_of_an_architecture_that_is_not_known_are_not_judged(plan_training: PlanOf) -> None:
    config = json.loads((GOLDEN / "models" / "tiny-llama.json").read_text()) | {"model_type": "new"}
    assert plan_training(read_shape(config), adapter=lora(targetModules=["wqkv"])).workload is not None


@pytest.mark.parametrize("name", ["lm_head", "model.embed_tokens"])
def test_no_adapter_lies_on_embeddings_that_are_the_head(plan_training: PlanOf, name: str) -> None:
    config = json.loads((GOLDEN / "models" / "tiny-llama.json").read_text()) | {"tie_word_embeddings": True}
    with pytest.raises(ConfigurationError, match=f"targetModules names '{name}', and the embeddings .* are its head"):
        plan_training(read_shape(config), adapter=lora(targetModules=["q_proj", name]))
    assert plan_training(read_shape(config), adapter=lora(modulesToSave=[name])).workload is not None
    untied = read_shape(config | {"tie_word_embeddings": False})
    assert plan_training(untied, adapter=lora(targetModules=["q_proj", name])).workload is not None


@pytest.mark.slow
def test_names_are_those_of_the_models_in_transformers() -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM
    from transformers.pytorch_utils import Conv1D

    from tests.unit.plan.test_model_shape import MODELS, OF_ITS_OWN_SIZES, SMALL

    for model_type, options in MODELS:
        known = MODULES.get(model_type)
        if known is None:
            assert "moe" in model_type or model_type == "mixtral"
            continue
        config = CONFIG_MAPPING[model_type](**(options if model_type in OF_ITS_OWN_SIZES else SMALL | options))
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        assert read_shape(config.to_dict()).tied == config.tie_word_embeddings
        named = {re.sub(r"\.\d+(?=\.|$)", ".*", name): module for name, module in model.named_modules() if name}
        adaptable = {
            name for name, part in named.items() if isinstance(part, torch.nn.Linear | torch.nn.Embedding | Conv1D)
        }
        assert adaptable <= set(known.adaptable())
        assert set(known.adaptable()) - adaptable <= {"model.decoder.project_in", "model.decoder.project_out"}
        assert {name for name, part in named.items() if any(True for _ in part.parameters())} <= known.paths()

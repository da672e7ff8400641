"""Names of modules that the model does not have, and an adapter of a folder that is another than the job asks for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from zerotune_trainer.adapter_modules import differences, require_targets, require_whole_modules
from zerotune_trainer.adapters import ModelFolders, attach
from zerotune_trainer.config.adapter import Adapter
from zerotune_trainer.errors import ConfigurationError

FOLDER = Path("/adapter")


def model() -> Any:
    sizes = {"vocab_size": 32, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    return LlamaForCausalLM(LlamaConfig(num_attention_heads=2, **sizes))


def adapted(**options: Any) -> PeftModel:
    return get_peft_model(model(), LoraConfig(r=4, lora_alpha=8, **options))


def lora(*targets: str, **fields: Any) -> Adapter:
    return Adapter.model_validate({"type": "lora", "r": 4, "alpha": 8, "targetModules": list(targets), **fields})


def test_a_whole_module_that_is_not_there_is_named_with_those_that_are() -> None:
    require_whole_modules(model(), lora("q_proj", modulesToSave=["lm_head", "layers.1", "norm"]))
    with pytest.raises(ConfigurationError, match=r"adapter\.modulesToSave names 'lm_haed', and the model") as caught:
        require_whole_modules(model(), lora("q_proj", modulesToSave=["lm_haed"]))
    assert "did you mean 'lm_head'?" in caught.value.hint and "'embed_tokens'" in caught.value.hint


def test_a_target_that_is_not_there_beside_others_is_named_with_those_that_are() -> None:
    """peft adapts the others, and says nothing."""
    require_targets(adapted(target_modules=["q_proj", "v_proj"]), lora("q_proj", "v_proj"))
    require_targets(adapted(target_modules="all-linear"), lora("all-linear"))
    with pytest.raises(ConfigurationError, match=r"adapter\.targetModules names 'v_porj', and the model") as caught:
        require_targets(adapted(target_modules=["q_proj", "v_porj"]), lora("q_proj", "v_porj"))
    assert "did you mean 'v_proj'? There are 'down_proj', 'gate_proj', 'k_proj'" in caught.value.hint


@pytest.mark.parametrize("asked", [lora("q_proj", "v_porj"), lora("q_proj", modulesToSave=["lm_haed"]), lora("v_porj")])
def test_a_new_adapter_with_a_name_that_no_module_has_is_not_trained(asked: Adapter) -> None:
    with pytest.raises(ConfigurationError) as caught:
        attach(model(), asked, ModelFolders(FOLDER), seed=0)
    assert "v_proj" in caught.value.hint


def test_layers_of_gpt2_which_are_no_linear_ones_in_torch_count_too() -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2))
    attached = get_peft_model(gpt2, LoraConfig(r=4, lora_alpha=8, target_modules=["c_attn"]))
    assert differences(attached, lora("c_attn"), FOLDER) == []
    (text,) = differences(attached, lora("all-linear"), FOLDER)
    assert "lies on 2 of the 8 layers" in text and "not on c_fc, c_proj" in text


@pytest.mark.parametrize(
    ("options", "targets", "said"),
    [
        ({"target_modules": "all-linear"}, ["all-linear"], []),
        ({"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}, ["q_proj"], []),
        (
            {"target_modules": ["q_proj", "v_proj"]},
            ["all-linear"],
            ["lies on 4 of the 14 layers .* not on down_proj, gate_proj, k_proj, o_proj, up_proj: training goes on"],
        ),
        (
            {"target_modules": r".*\.(q|v)_proj"},
            ["q_proj"],
            ["lies on v_proj as well, which adapter.targetModules does not ask for: training goes on"],
        ),
        (
            {"target_modules": ["q_proj"], "layers_to_transform": [1]},
            ["q_proj"],
            ["lies on 1 of the 2 layers which adapter.targetModules asks for, and not on q_proj"],
        ),
        (
            {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 1}},
            ["q_proj", "v_proj"],
            [r"another rank or scale than adapter.r and adapter.alpha on q_proj, v_proj \(rank_pattern"],
        ),
    ],
)
def test_an_adapter_that_is_not_as_the_job_asks_for_is_said_to_be(
    options: dict[str, Any], targets: list[str], said: list[str]
) -> None:
    found = differences(adapted(**options), lora(*targets), FOLDER)
    assert len(found) == len(said)
    assert all(re.search(pattern, text) for pattern, text in zip(said, found, strict=True))

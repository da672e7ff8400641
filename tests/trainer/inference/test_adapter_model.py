"""An InferenceJob with an adapter as its model: merged as it is loaded, rounded once, equal to the merged model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.trainer.inference.adapters import loaded, write_adapter
from zerotune_trainer.adapters import merge
from zerotune_trainer.errors import ConfigurationError

pytestmark = pytest.mark.slow
OPTIONS: dict[str, dict[str, Any]] = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "head": {"modules_to_save": ["lm_head"]},
    "patterns": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 64}},
}


@pytest.mark.parametrize("kind", OPTIONS)
def test_merging_changes_no_logit(model_folder: Path, tmp_path: Path, kind: str) -> None:
    folder = write_adapter(model_folder, tmp_path / "adapter", **OPTIONS[kind])
    ids = torch.arange(30)[None]
    with torch.no_grad():
        before = loaded(model_folder)(input_ids=ids).logits
        adapted = PeftModel.from_pretrained(loaded(model_folder), folder)(input_ids=ids).logits
        merged = merge(loaded(model_folder), folder)
        difference = (merged(input_ids=ids).logits - adapted).abs().max()
    assert float(difference) < 1e-4 * float(adapted.abs().max())
    assert float((adapted - before).abs().max()) > 0.1
    assert all(parameter.requires_grad for parameter in merged.parameters())


def test_merging_in_bf16_rounds_once(model_folder: Path, tmp_path: Path) -> None:
    folder = write_adapter(model_folder, tmp_path / "adapter")
    attached = PeftModel.from_pretrained(loaded(model_folder, torch.bfloat16), folder, autocast_adapter_dtype=False)
    wanted = {}
    for name, layer in attached.named_modules():
        if hasattr(layer, "lora_A") and "default" in layer.lora_A:
            a, b = layer.lora_A["default"].weight.float(), layer.lora_B["default"].weight.float()
            wanted[name] = (layer.base_layer.weight.float() + 2 * (b @ a)).bfloat16()
    assert len(wanted) == 14
    merged = merge(loaded(model_folder, torch.bfloat16), folder).state_dict()
    for name, weight in wanted.items():
        assert torch.equal(merged[f"{name.removeprefix('base_model.model.')}.weight"], weight), name


def test_an_adapter_of_another_model_is_rejected(model_folder: Path, tmp_path: Path) -> None:
    folder = write_adapter(model_folder, tmp_path / "adapter")
    wider = loaded(model_folder).config
    wider.intermediate_size = 96
    with pytest.raises(
        ConfigurationError,
        match=r"another base: it is for 64 inputs of model\.layers\.0\.mlp\.down_proj, and the base has 96",
    ):
        merge(AutoModelForCausalLM.from_config(wider), folder)


def test_an_adapter_on_embeddings_that_are_the_head_is_rejected(model_folder: Path, tmp_path: Path) -> None:
    config = loaded(model_folder).config
    config.tie_word_embeddings = True
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "tied")
    folder = write_adapter(tmp_path / "tied", tmp_path / "adapter", target_modules=["embed_tokens"])
    with pytest.raises(ConfigurationError, match=r"its head, too \(tie_word_embeddings\)"):
        merge(loaded(tmp_path / "tied"), folder)


def test_a_job_generates_what_the_merged_model_does(
    job: Any, run_job: Any, output_rows: Any, model_folder: Path, tokenizer: Any, write_jsonl: Any, tmp_path: Path
) -> None:
    data = {"uris": [write_jsonl([{"prompt": text} for text in ("What is XSS?", "An overflow is")]).as_uri()]}
    adapter = write_adapter(model_folder, tmp_path / "adapter")
    merge(loaded(model_folder), adapter).save_pretrained(tmp_path / "merged")
    tokenizer.save_pretrained(tmp_path / "merged")
    generated = {}
    for name, folder in (("adapter", adapter), ("merged", tmp_path / "merged"), ("base", model_folder)):
        output = (tmp_path / "output" / name).as_uri()
        parts = {"data": data, "model": {"uri": folder.as_uri()}, "output": {"uri": output}}
        assert run_job(job(ranks=1, name=name, **parts)).exit_codes == [0]
        [part] = (tmp_path / "output" / name).glob("part-*.jsonl")
        generated[name] = part.read_text()
    assert generated["adapter"] == generated["merged"] != generated["base"]

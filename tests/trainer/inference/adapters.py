"""Adapters with random weights, for jobs and for what merges them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM


def loaded(folder: Path, dtype: torch.dtype = torch.float32) -> Any:
    """The model of a folder."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)


def write_adapter(base: Path, folder: Path, **options: Any) -> Path:
    """An adapter with random weights, as training leaves them."""
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "init_lora_weights": False, **options}
    torch.manual_seed(1)
    model = get_peft_model(loaded(base), LoraConfig(**settings, base_model_name_or_path=str(base)))
    for name, parameter in model.named_parameters():
        if "modules_to_save" in name:
            parameter.data += torch.randn_like(parameter)
    model.save_pretrained(folder, save_embedding_layers=False)
    return folder

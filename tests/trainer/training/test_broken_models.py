"""Folders of models and settings of transformers that break a library: the file is named, and nothing is retried."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from zerotune_trainer.config.sources import Model
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ZerotuneError
from zerotune_trainer.sizing.model_config import shape_of_file

pytestmark = pytest.mark.slow
ROPE = {"rope_parameters": None, "rope_theta": 10000.0}


@pytest.fixture
def copied_model(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def examine(folder: Path) -> None:
    """What a rank does with a model's folder, up to its weights in memory."""
    from zerotune_trainer import model, model_checks

    shape_of_file(folder / "config.json")
    model_checks.check_weights(model_checks.empty_model(Model(), folder), folder)
    model.load_model(Model(), folder, "fp32", "cpu")


def test_weights_that_are_missing_are_missed_in_what_the_user_named(copied_model: Path) -> None:
    """Of a model on S3 a rank has a copy in its cache, which nobody knows."""
    from zerotune_trainer import model_checks

    empty = model_checks.empty_model(Model(), copied_model)
    for path in copied_model.glob("*.safetensors"):
        path.unlink()
    with pytest.raises(InputMissingError, match=r"^s3://results/first holds no weights: there is no"):
        model_checks.check_weights(empty, copied_model, "s3://results/first")


@pytest.mark.parametrize(
    "change",
    [
        ROPE | {"rope_scaling": "linear"},
        ROPE | {"rope_scaling": {"rope_type": "ntk_by_parts", "factor": 4.0}},
        ROPE | {"rope_scaling": {"rope_type": "llama3", "factor": 8.0}},
        ROPE | {"rope_scaling": {"factor": 2.0}},
        {"hidden_act": "swiglu9"},
        {"hidden_act": None},
        {"rms_norm_eps": "small"},
        {"num_key_value_heads": 3},
        {"num_hidden_layers": "two"},
        {"model_type": "future_model"},
        {"model_type": "vit"},
        {"auto_map": {"AutoConfig": "code.Config"}, "model_type": "remote"},
    ],
)
def test_a_config_that_transformers_cannot_use_is_named(copied_model: Path, change: dict[str, Any]) -> None:
    path = copied_model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ConfigurationError) as rejected:
        examine(copied_model)
    assert str(copied_model) in rejected.value.message
    assert rejected.value.hint


def test_weights_of_more_layers_than_the_config_has_are_named(copied_model: Path) -> None:
    path = copied_model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_hidden_layers": 1}))
    with pytest.raises(ConfigurationError, match=r"weights that its config\.json has no place for") as rejected:
        examine(copied_model)
    assert "model.layers.1.input_layernorm.weight" in rejected.value.message


def torn_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {')
    (folder / "model-00001-of-00002.safetensors").touch()


def index_without_a_map(folder: Path) -> None:
    torn_index(folder)
    (folder / "model.safetensors.index.json").write_text("[]")


def lfs_pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def no_bytes(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def pickle_of_no_bytes(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def pickle_that_is_a_pointer(folder: Path) -> None:
    lfs_pointer(folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def pickle_of_something_else(folder: Path) -> None:
    import torch

    (folder / "model.safetensors").unlink()
    torch.save([1, 2, 3], folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    "spoil",
    [
        torn_index,
        index_without_a_map,
        lfs_pointer,
        no_bytes,
        pickle_of_no_bytes,
        pickle_that_is_a_pointer,
        pickle_of_something_else,
    ],
)
def test_files_of_a_model_that_cannot_be_read_are_its_folders_fault(
    copied_model: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(copied_model)
    with pytest.raises(ZerotuneError) as rejected:
        examine(copied_model)
    assert isinstance(rejected.value, ConfigurationError | InputMissingError)
    assert str(copied_model) in rejected.value.message
    assert rejected.value.hint
    if spoil is lfs_pointer:
        assert "git lfs pull" in rejected.value.hint


def test_an_adapter_without_its_weights_is_missing_them(tmp_path: Path) -> None:
    from peft import LoraConfig
    from torch import nn

    from zerotune_trainer import adapters

    LoraConfig(base_model_name_or_path="org/base", target_modules=["q_proj"]).save_pretrained(tmp_path)
    with pytest.raises(InputMissingError, match="holds no weights of an adapter"):
        adapters.merge(cast(Any, nn.Module()), tmp_path)


@pytest.mark.parametrize(
    ("name", "renamed", "message"),
    [
        ("layers.0.", None, "lacks the adapter's weights base_model.model.model.layers.0.self_attn.q_proj.lora_A"),
        ("layers.0.", "layers.7.", "lacks the adapter's weights base_model.model.model.layers.0."),
        ("", "layers.7.", "holds weights that its base has no place for: base_model.model.model.layers.7."),
    ],
    ids=["left out", "of another layer", "of a layer more"],
)
def test_an_adapter_that_is_not_whole_is_rejected(
    copied_model: Path, tmp_path: Path, name: str, renamed: str | None, message: str
) -> None:
    """peft only warns of the first, and says nothing of the last."""
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    from zerotune_trainer import adapters

    base = AutoModelForCausalLM.from_pretrained(copied_model)
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(str(tmp_path / "adapter"))
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    weights = load_file(path)
    kept = {key: value for key, value in weights.items() if not name or name not in key}
    if renamed:
        kept |= {
            key.replace("layers.0.", renamed): value.clone() for key, value in weights.items() if "layers.0." in key
        }
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(ConfigurationError) as rejected:
        adapters.merge(AutoModelForCausalLM.from_pretrained(copied_model), tmp_path / "adapter")
    assert message in rejected.value.message


def test_a_stale_index_beside_a_whole_file_of_weights_is_ignored(copied_model: Path) -> None:
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (copied_model / "model.safetensors.index.json").write_text(json.dumps(index))
    examine(copied_model)


def test_a_package_that_is_missing_is_named(make_job: Any) -> None:
    job = make_job(hosts="127.0.0.1 slots=1\n")
    job.config["training"]["arguments"] = {"report_to": "comet_ml"}
    ended = job.run()
    assert ended.exit_codes == [64]
    message = (
        "training.arguments.report_to is 'comet_ml', which needs the Python package comet_ml, and this image has none"
    )
    assert ended.failures[0].message == message
    assert ended.failures[0].hint == "leave report_to out, or add comet_ml to the trainer's image"

"""A block-FP8 checkpoint: dequantized to generate, rejected to train; other methods are rejected for both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from zerotune_trainer import model as models
from zerotune_trainer import model_checks
from zerotune_trainer.config import TrainConfig, load_config
from zerotune_trainer.config.sources import Model
from zerotune_trainer.errors import ConfigurationError

pytestmark = pytest.mark.slow
BLOCK, LARGEST_FP8 = 16, 448.0


@pytest.fixture(scope="module")
def fp8_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with its linear layers in blocks of FP8 and a scale a block, as DeepSeek publishes them."""
    folder = Path(shutil.copytree(model_folder, tmp_path_factory.mktemp("fp8") / "model"))
    stored: dict[str, torch.Tensor] = {}
    for name, weight in load_file(folder / "model.safetensors").items():
        stored |= _in_blocks(name, weight) if "_proj" in name else {name: weight}
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    quantize_config(folder, {"quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]})
    return folder


def _in_blocks(name: str, weight: torch.Tensor) -> dict[str, torch.Tensor]:
    rows, columns = weight.shape
    blocks = weight.float().reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    scales = blocks.abs().amax(dim=(1, 3), keepdim=True) / LARGEST_FP8
    small = (blocks / scales).reshape(rows, columns).to(torch.float8_e4m3fn)
    return {name: small.contiguous(), f"{name}_scale_inv": scales.reshape(rows // BLOCK, columns // BLOCK).contiguous()}


def quantize_config(folder: Path, settings: dict[str, Any]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": settings}))


def test_fp8_weights_are_dequantized_when_loaded(fp8_folder: Path, model_folder: Path) -> None:
    model_checks.check_weights(model_checks.empty_model(Model(), fp8_folder), fp8_folder)
    found = models.load_model(Model(), fp8_folder, "fp32", "cpu").state_dict()
    wanted = models.load_model(Model(), model_folder, "fp32", "cpu").state_dict()
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        assert (found[name].float() - weight).norm() < 0.05 * weight.norm(), name


def test_an_inference_job_reads_fp8_and_nothing_else(
    job: Any, run_job: Any, output_rows: Any, fp8_folder: Path, write_jsonl: Any, tmp_path: Path
) -> None:
    data = {"uris": [write_jsonl([{"prompt": "What is XSS?"}]).as_uri()]}
    folder = job(ranks=1, data=data, model={"uri": fp8_folder.as_uri()})
    assert run_job(folder).exit_codes == [0]
    assert output_rows()[0]["generation"]
    gptq = Path(shutil.copytree(fp8_folder, tmp_path / "gptq"))
    quantize_config(gptq, {"quant_method": "gptq", "bits": 4})
    with pytest.raises(ConfigurationError, match=r"config\.json: the weights are quantized \(gptq\)"):
        model_checks.check_config(load_config(folder), gptq)


def test_training_rejects_fp8(fp8_folder: Path) -> None:
    config = TrainConfig.model_validate(
        {
            "job": {"kind": "FineTuneJob", "name": "tune", "uid": "u"},
            "launch": {"cacheDir": "/cache"},
            "model": {"uri": fp8_folder.as_uri()},
            "output": {"uri": "file:///output"},
            "method": "sft",
            "data": {"train": {"uris": ["file:///data.jsonl"]}},
            "training": {},
            "checkpoint": {},
            "evaluation": {},
        }
    )
    with pytest.raises(ConfigurationError, match=r"config\.json: the weights are quantized \(fp8\)"):
        model_checks.check_config(config, fp8_folder)

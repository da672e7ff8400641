"""Preference methods that compare with another model than the one that is trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from tests.trainer.training.test_preference_losses import JUDGED, OPTIONS, PAIRS
from zerotune_trainer.errors import ConfigurationError

pytestmark = pytest.mark.slow

TRAINERS: dict[str, Any] = {"dpo": (DPOTrainer, DPOConfig, PAIRS), "kto": (KTOTrainer, KTOConfig, JUDGED)}


@pytest.fixture(scope="module")
def other_model(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same vocabulary with other weights."""
    folder = Path(shutil.copytree(model_folder, tmp_path_factory.mktemp("other") / "model"))
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator) * parameter.data.std()
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def make_referring_job(make_job: Any, tmp_path: Path) -> Any:
    """Make a job of two steps that compares with the model of a folder; every batch has all records."""

    def make(method: str, reference: Path, *, stage: int = 0, ranks: int = 1) -> Any:
        job = make_job(f"{method}-{stage}", method="sft", stage=stage, hosts=f"127.0.0.1 slots={ranks}\n")
        records = tmp_path / f"{method}.jsonl"
        Dataset.from_list(TRAINERS[method][2]).to_json(records)
        job.config |= {"method": method, "preference": {"beta": 0.3, "referenceModel": {"uri": f"file://{reference}"}}}
        job.config["data"] |= {"train": {"uris": [f"file://{records}"]}, "validationFraction": 0, "maxLength": 64}
        job.config["training"] |= {"perDeviceTrainBatchSize": 4 // ranks, "maxSteps": 2}
        job.config["launch"]["cacheDir"] = str(tmp_path / f"cache-{stage}")
        return job

    return make


def loss_of_trl(method: str, model_folder: Path, reference: Path, output: Path) -> float:
    """The first loss of TRL's trainer with this `ref_model`."""
    trainer_type, config_type, records = TRAINERS[method]
    trainer = trainer_type(
        model=AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval(),
        ref_model=AutoModelForCausalLM.from_pretrained(reference, dtype=torch.float32),
        args=config_type(str(output), **OPTIONS),
        train_dataset=Dataset.from_list(records),
        processing_class=AutoTokenizer.from_pretrained(model_folder),
    )
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(len(records))])
    return float(trainer.compute_loss(trainer.model, batch).detach())


@pytest.mark.parametrize("method", ["dpo", "kto"])
def test_the_first_loss_is_that_of_trl_with_the_same_reference(
    method: str, make_referring_job: Any, model_folder: Path, other_model: Path, tmp_path: Path
) -> None:
    job = make_referring_job(method, other_model)
    ended = job.run()
    assert ended.exit_codes == [0], ended.failures
    wanted = loss_of_trl(method, model_folder, other_model, tmp_path / "trl")
    assert job.losses()[0] == pytest.approx(wanted, rel=1e-4)
    if method == "dpo":
        assert wanted != pytest.approx(0.6931, rel=1e-3), "with the model itself as the reference it is log(2)"
        partitioned = make_referring_job(method, other_model, stage=3, ranks=2)
        ended = partitioned.run()
        assert ended.exit_codes == [0, 0], ended.failures
        assert partitioned.losses() == pytest.approx(job.losses(), rel=1e-4)


def test_a_reference_of_another_vocabulary_is_rejected(
    make_referring_job: Any, other_model: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(other_model, tmp_path / "renamed"))
    content = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["!"], vocabulary["?"] = vocabulary["?"], vocabulary["!"]
    (folder / "tokenizer.json").write_text(json.dumps(content))
    ended = make_referring_job("dpo", folder).run()
    assert ended.exit_codes == [ConfigurationError.exit_code]
    assert "has another vocabulary" in ended.failures[0].message

"""Losses and gradients of dpo, orpo and kto are those of TRL's trainers, on the same records and models, in fp32."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer
from trl.experimental.orpo import ORPOConfig, ORPOTrainer

from zerotune_trainer import methods
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.training import Preference
from zerotune_trainer.training.log_probabilities import add_log_probabilities, completion_log_probabilities

pytestmark = pytest.mark.slow

PAIRS = [
    {"prompt": prompt, "chosen": chosen, "rejected": rejected}
    for prompt, chosen, rejected in (
        ("What is CWE-79?", " Script of a stranger in a page.", " A buffer that is too short."),
        ("When is CWE-89 introduced?", " When a query is put together of text.", " Never."),
        ("Name a weakness of memory.", " Use after free.", " Cross-site scripting, in most browsers."),
        ("What follows?", " Code of a stranger runs.", " Nothing of note follows from it."),
    )
]
JUDGED = [
    {"prompt": pair["prompt"], "completion": pair[which], "label": which == "chosen"}
    for pair, which in zip(PAIRS, ("chosen", "rejected", "chosen", "rejected"), strict=True)
]
ENDINGS = {"chosen", "completion"}
OPTIONS: dict[str, Any] = {
    "per_device_train_batch_size": 4,
    "max_length": 64,
    "bf16": False,
    "gradient_checkpointing": False,
    "use_cpu": True,
    "report_to": [],
    "beta": 0.3,
}


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """A process group of one rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def models(model_folder: Path) -> tuple[Any, Any]:
    """A model, and a reference that is not the same."""
    trained = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32).eval()
    reference = copy.deepcopy(trained)
    generator = torch.Generator().manual_seed(1)
    for parameter in trained.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator) * parameter.data.std()
    return trained, reference


@pytest.fixture
def ours(make_job: Any, model_folder: Path, tmp_path: Path, models: tuple[Any, Any]) -> Any:
    """Loss and gradient of the head, as zerotune has them."""

    def measure(
        method_name: str, records: list[dict[str, Any]], *, padding_free: bool = False, **preference: Any
    ) -> tuple[float, torch.Tensor]:
        trained, reference = models
        path = tmp_path / "records.jsonl"
        Dataset.from_list(records).to_json(path)
        job = make_job("losses", method="sft")
        job.config |= {"method": method_name, "preference": {"beta": 0.3, **preference}}
        job.config["data"] |= {"train": {"uris": [path.as_uri()]}, "maxLength": 64, "validationFraction": 0}
        job.config["data"] |= {"paddingFree": padding_free}
        job.config["data"].pop("columns", None)
        config = TrainConfig.model_validate(job.config)
        tokenizer = AutoTokenizer.from_pretrained(model_folder)
        method: Any = methods.method_of(config.method)
        rows = method.prepare(config, tokenizer).train
        collate = method.collator(config, tokenizer, trained.config)
        for model in (trained, reference):
            add_log_probabilities(model)
        batch = collate([rows[index] for index in range(len(rows))])
        with torch.no_grad():
            values = torch.stack(completion_log_probabilities(reference, batch).chunk(2), dim=1).numpy()
        batch = collate([row | {"reference": value} for row, value in zip(rows, np.asarray(values), strict=True)])
        objective = method.of(Preference.model_validate(job.config["preference"]))
        loss = objective.loss(objective.measure(trained, batch), objective.units(batch))
        loss.backward()
        gradient = trained.get_output_embeddings().weight.grad.clone()
        trained.zero_grad()
        return float(loss), gradient

    return measure


def theirs(trainer: Any) -> tuple[float, torch.Tensor]:
    """Loss and gradient of the head, as one of TRL's trainers has them."""
    batch = trainer.data_collator([trainer.train_dataset[index] for index in range(4)])
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    return float(loss), trainer.model.get_output_embeddings().weight.grad.clone()


def assert_equal(mine: tuple[float, torch.Tensor], other: tuple[float, torch.Tensor]) -> None:
    assert mine[0] == pytest.approx(other[0], rel=1e-4)
    assert float(other[1].norm()) > 1e-4
    torch.testing.assert_close(mine[1], other[1], rtol=1e-3, atol=1e-5 * float(other[1].abs().max()) + 1e-7)


@pytest.mark.parametrize(
    ("loss_type", "weights"),
    [
        *(([name], None) for name in ("sigmoid", "hinge", "ipo", "robust", "apo_zero", "apo_down")),
        (["sigmoid", "ipo"], [0.8, 0.2]),
        (["hinge", "apo_zero"], None),
    ],
    ids=str,
)
def test_dpo_has_the_losses_of_trl(
    loss_type: list[str],
    weights: list[float] | None,
    ours: Any,
    models: Any,
    model_folder: Path,
    tmp_path: Path,
) -> None:
    smoothing = 0.1 if loss_type == ["robust"] else 0.0
    trained, reference = copy.deepcopy(models)
    trainer = DPOTrainer(
        model=trained,
        ref_model=reference,
        args=DPOConfig(
            str(tmp_path / "trl"), loss_type=loss_type, loss_weights=weights, label_smoothing=smoothing, **OPTIONS
        ),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=AutoTokenizer.from_pretrained(model_folder),
    )
    other = theirs(trainer)
    assert_equal(ours("dpo", PAIRS, lossType=loss_type, lossWeights=weights, labelSmoothing=smoothing), other)


def test_orpo_has_the_loss_of_trl(ours: Any, models: Any, model_folder: Path, tmp_path: Path) -> None:
    trainer = ORPOTrainer(
        model=copy.deepcopy(models[0]),
        args=ORPOConfig(str(tmp_path / "trl"), remove_unused_columns=False, **OPTIONS),
        train_dataset=Dataset.from_list(PAIRS),
        processing_class=AutoTokenizer.from_pretrained(model_folder),
    )
    other = theirs(trainer)
    assert_equal(ours("orpo", PAIRS), other)


@pytest.mark.parametrize(
    ("method", "options"),
    [("dpo", {"lossType": ["sigmoid"]}), ("dpo", {"lossType": ["ipo", "apo_zero"]}), ("orpo", {}), ("kto", {})],
    ids=str,
)
def test_sequences_that_share_rows_have_the_losses_of_padded_ones(
    ours: Any, models: Any, method: str, options: dict[str, Any]
) -> None:
    records, seen = [*(JUDGED if method == "kto" else PAIRS)], list[torch.Size]()
    records[1:3] = [
        record | {"prompt": "So?"} | dict.fromkeys(ENDINGS & record.keys(), " No.") for record in records[1:3]
    ]
    padded = ours(method, records, **options)
    models[0].get_input_embeddings().register_forward_hook(lambda _, given, __: seen.append(given[0].shape))
    shared = ours(method, records, padding_free=True, **options)
    assert shared[0] == pytest.approx(padded[0], rel=1e-5)
    assert float(padded[1].norm()) > 1e-4
    torch.testing.assert_close(shared[1], padded[1], rtol=1e-4, atol=1e-6 * float(padded[1].abs().max()))
    assert seen and all(rows < (4 if method == "kto" else 8) for rows, _ in seen), "fewer rows than sequences"


def test_kto_has_the_loss_of_trl(ours: Any, models: Any, model_folder: Path, tmp_path: Path) -> None:
    trained, reference = copy.deepcopy(models)
    trainer = KTOTrainer(
        model=trained,
        ref_model=reference,
        args=KTOConfig(str(tmp_path / "trl"), **OPTIONS),
        train_dataset=Dataset.from_list(JUDGED),
        processing_class=AutoTokenizer.from_pretrained(model_folder),
    )
    other = theirs(trainer)
    assert_equal(ours("kto", JUDGED), other)

"""Losses that never hold all logits: values and gradients are those of the plain loss, at a fraction of its memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from tests.trainer.training.test_packing_check import tiny
from zerotune_devtools.benchmarks.loss_memory import log_probabilities, make_head, peak_bytes, peak_of, plain, tiled
from zerotune_trainer.config.training import Preference
from zerotune_trainer.methods.dpo import DpoObjective
from zerotune_trainer.training.log_probabilities import add_log_probabilities, token_log_probabilities
from zerotune_trainer.training.tiled_loss import TiledLoss, add_tiled_loss, check_tiled_loss

pytestmark = pytest.mark.slow

FAMILIES = ["llama", "gpt2", "gemma2", "cohere", "granite", "phi", "mixtral", "falcon_h1"]
QWEN = 151_936
SHAPE: dict[str, Any] = {
    "vocab_size": 32_000,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
ADAPTERS: dict[str, dict[str, Any]] = {
    "other modules": {"target_modules": ["q_proj"]},
    "head": {"target_modules": ["q_proj", "lm_head"]},
    "head, dora": {"target_modules": ["lm_head"], "use_dora": True},
    "head saved": {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
}


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """A process group of one rank."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    """Two rows, one of them padded, with labels of some tokens."""
    ids = torch.randint(1, 128, (2, 40), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 30:] = 0
    labels = torch.where(mask > 0, ids, -100)
    labels[0, :10] = -100
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def results(model: Any, loss: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A loss, and the gradients by parameter."""
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}


def with_adapter(adapter: str) -> Any:
    """A Llama with an adapter that has left its beginning, where it does nothing."""
    model: Any = get_peft_model(tiny("llama", tie_word_embeddings=False), LoraConfig(r=4, **ADAPTERS[adapter]))
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def assert_same(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours[0], theirs[0], rtol=tolerance, atol=tolerance)
    assert ours[1].keys() == theirs[1].keys()
    for name, gradient in theirs[1].items():
        torch.testing.assert_close(ours[1][name], gradient, rtol=tolerance, atol=tolerance, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_are_those_of_the_model(family: str, batch: Any) -> None:
    model = tiny(family).eval()
    theirs = results(model, model(**batch, num_items_in_batch=torch.tensor(50)).loss)
    add_tiled_loss(model)
    check_tiled_loss(model)
    assert isinstance(model.forward, TiledLoss)
    assert model.forward.active
    given = model(**batch, num_items_in_batch=torch.tensor(50))
    assert given.logits is None
    assert_same(results(model, given.loss), theirs)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_of_the_head_is_part_of_the_loss(adapter: str, batch: Any) -> None:
    model = with_adapter(adapter)
    theirs = results(model, model(**batch).loss)
    add_tiled_loss(model)
    assert_same(results(model, model(**batch).loss), theirs)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_of_the_head_is_part_of_log_probabilities(adapter: str, batch: Any) -> None:
    model = with_adapter(adapter)
    labels, counted = batch["labels"][:, 1:], batch["labels"][:, 1:] != -100
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = model(**inputs).logits[:, :-1].log_softmax(dim=-1)
    plain_sum = (logits.gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1) * counted).sum()
    theirs = results(model, plain_sum)
    add_log_probabilities(model)
    assert_same(results(model, token_log_probabilities(model, batch, batch["labels"]).sum()), theirs)


def test_in_bf16_the_loss_is_that_of_the_model_up_to_rounding(batch: Any) -> None:
    model = tiny("llama").to(torch.bfloat16)
    theirs = results(model, model(**batch).loss)
    add_tiled_loss(model)
    ours = results(model, model(**batch).loss)
    assert ours[0].dtype == torch.float32
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-4)
    for name, gradient in theirs[1].items():
        assert float((ours[1][name] - gradient).norm()) <= 2e-2 * float(gradient.norm()), name


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_batch_without_labels_has_no_loss_and_no_gradient(family: str, batch: Any) -> None:
    model = tiny(family)
    add_tiled_loss(model)
    none = torch.full_like(batch["labels"], -100)
    loss, gradients = results(model, model(**batch | {"labels": none}, num_items_in_batch=torch.tensor(7)).loss)
    assert loss == 0
    assert gradients
    assert not any(gradient.any() for gradient in gradients.values())


def test_a_model_with_a_further_term_keeps_its_own_loss(batch: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = tiny("mixtral", output_router_logits=True, router_aux_loss_coef=1.0)
    theirs = model(**batch).loss
    add_tiled_loss(model)
    check_tiled_loss(model)
    assert "it makes all logits of a batch at once" in caplog.text.lower()
    assert model(**batch).loss == theirs


@pytest.mark.parametrize("loss", [tiled, log_probabilities])
def test_memory_is_at_most_an_eighth_of_that_of_all_logits(loss: Any) -> None:
    """With the vocabulary of Qwen; the gradient of the head counts on both sides."""
    all_logits = peak_bytes(plain, make_head(32, 8, QWEN)) * 1024 / 32
    assert all_logits > 3 * 4 * QWEN * 1024
    assert peak_bytes(loss, make_head(1024, 8, QWEN)) <= all_logits / 8


def test_dpo_takes_the_memory_of_sft_on_the_same_tokens() -> None:
    ids = torch.randint(1, 32_000, (4, 256), generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    pairs = batch | {"reference": torch.zeros(2, 2), "weights": torch.ones(2)}
    sft, dpo = (LlamaForCausalLM(LlamaConfig(**SHAPE)) for _ in range(2))
    add_tiled_loss(sft)
    add_log_probabilities(dpo)
    objective = DpoObjective(Preference())
    of_sft = peak_of(lambda: sft(**batch).loss)
    of_dpo = peak_of(lambda: objective.measure(dpo, pairs).sums.sum())
    print(f"peak of sft {of_sft / 2**20:.1f} MiB, of dpo {of_dpo / of_sft:.3f} of that")
    assert of_dpo <= 1.05 * of_sft

"""Model FLOPs utilization against figures that were published, and where there is none."""

from __future__ import annotations

import pytest

from zerotune_trainer.reporting.figures import final_figures
from zerotune_trainer.reporting.results import Results, TrainRecord
from zerotune_trainer.sizing.flops import Utilization, flops_per_token
from zerotune_trainer.sizing.shape import read_shape

A100 = "NVIDIA A100-SXM4-80GB"
GPT_175B = {
    "model_type": "gpt2",
    "n_embd": 12288,
    "n_layer": 96,
    "n_head": 96,
    "vocab_size": 51200,
    "n_positions": 2048,
}


def test_megatron_reached_half_of_its_gpus() -> None:
    """arXiv 2205.05198, table 5: GPT-3 175B, 64 rows on 64 A100 in 13.75 s a step, an MFU of 51.4%."""
    shape = read_shape(GPT_175B)
    utilization = Utilization.of_devices(shape, [A100] * 64, "bf16")
    assert utilization is not None
    assert utilization.at(64 * 2048 / 13.75, 2048) == pytest.approx(0.514, rel=0.03)


def test_a_token_of_a_mixture_counts_the_experts_it_goes_through() -> None:
    sizes = {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8}
    mixtral = read_shape(
        {"model_type": "mixtral", "num_local_experts": 8, "intermediate_size": 14336, "vocab_size": 32000, **sizes}
    )
    active = flops_per_token(mixtral, 0) / 6
    assert active == pytest.approx(12.8e9, rel=0.02), "12.9 B active parameters are published, embeddings counted"


@pytest.mark.parametrize(
    ("devices", "precision"),
    [
        (["cpu"], "bf16"),
        ([A100], "fp32"),
        ([A100, "Unheard-Of"], "bf16"),
        (["NVIDIA A100 MIG 1g.10gb"], "bf16"),
        ([], "bf16"),
    ],
)
def test_an_unknown_peak_gives_none(devices: list[str], precision: str) -> None:
    assert Utilization.of_devices(read_shape(GPT_175B), devices, precision) is None


def test_the_report_shows_the_median_utilization() -> None:
    records = [TrainRecord(step=step, mfu=share) for step, share in enumerate((0.1, 0.4, 0.5))]
    figures = {figure.name: figure.value for figure in final_figures(Results(steps=3), records)}
    assert figures["Model FLOPs utilization, median"] == "40.0%"
    assert "Model FLOPs utilization, median" not in {figure.name for figure in final_figures(Results(steps=3))}

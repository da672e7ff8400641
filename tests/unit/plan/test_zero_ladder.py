"""The ladder: bytes that follow from P, G and L, and the choice of a rung with its reasons (R28, R31)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_operator.plan import Plan
from zerotune_trainer.config.training import Zero
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.ladder import USABLE, choose
from zerotune_trainer.sizing.memory import GIB, Rung, Workload, weigh
from zerotune_trainer.sizing.shape import ModelShape, read_shape

PlanOf = Callable[..., Plan]
ShapeOf = Callable[[str], ModelShape]


def workload(shape: ModelShape, **changes: Any) -> Workload:
    return Workload.model_validate(
        {
            "shape": shape,
            "precision": "bf16",
            "micro_batch": 1,
            "sequence_length": 2048,
            "data_parallel": 8,
            "ranks_per_node": 8,
            "on_cpu": False,
            **changes,
        }
    )


def states(rung: Rung) -> int:
    return rung.weights + rung.gradients + rung.optimizer


def reasons(rungs: tuple[Rung, ...]) -> list[tuple[str, str]]:
    return [(rung.name, rung.reason) for rung in rungs]


def test_states_are_those_of_the_table(shape: ShapeOf) -> None:
    """bf16 with AdamW: 20 bytes a parameter at first, 2 + 18/G at stage 2, L gathered on top of 20/G at stage 3.

    The host holds what is offloaded, and while the output is written rank 0's copy of all weights on top of it.
    """
    model = shape("llama-3.1-70b")
    parameters, largest, ranks = model.parameters, model.largest_layer, 16
    rungs = {rung.name: rung for rung in weigh(workload(model, data_parallel=ranks))}
    share = parameters // ranks
    assert states(rungs["ZeRO-0"]) == 20 * parameters
    assert states(rungs["ZeRO-1"]) == 4 * parameters + 16 * share
    assert states(rungs["ZeRO-2"]) == 2 * parameters + 18 * share + 2 * largest
    assert states(rungs["ZeRO-3"]) == 20 * share + 2 * max(10**9, largest) + 2 * largest
    assert states(rungs["ZeRO-3 + optimizer on CPU"]) == 2 * share + 2 * max(10**9, largest) + 2 * largest
    assert states(rungs["ZeRO-3 + optimizer, weights on CPU"]) == 2 * max(10**9, largest) + 2 * largest
    host = rungs["ZeRO-3 + optimizer, weights on CPU"].node_bytes
    assert host == pytest.approx(8 * (GIB + 1.5 * 18 * parameters / ranks) + 2 * parameters, rel=1e-9)


def test_fp32_has_no_second_copy_of_weights_at_stage_0(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    assert states(weigh(workload(model, precision="fp32"))[0]) == 16 * model.parameters


def test_on_cpu_too_the_output_is_copied_where_it_is_written(shape: ShapeOf) -> None:
    """Gradients and activations are gone by then, and of a few tokens they take less than a copy of all weights."""
    model = shape("llama-3.1-8b")
    load = workload(model, data_parallel=64, ranks_per_node=1, on_cpu=True, sequence_length=64)
    taken = next(rung for rung in weigh(load) if rung.name == "ZeRO-3")
    assert taken.node_bytes == GIB + taken.weights + taken.optimizer + 2 * model.parameters > taken.device_bytes


def test_activations_and_logits_follow_the_published_formulas(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    tokens = 2 * 2048
    plain, eager, recomputed = (
        weigh(workload(model, micro_batch=2, **changes))[0]
        for changes in ({}, {"eager_attention": True}, {"gradient_checkpointing": True})
    )
    layer = 34 * tokens * model.hidden_size
    assert plain.activations == model.layers * layer
    assert eager.activations == model.layers * (layer + 5 * model.heads * 2048 * tokens)
    assert recomputed.activations == layer + 2 * tokens * model.hidden_size * model.layers
    assert plain.logits == 12 * tokens * model.vocab_size
    assert weigh(workload(model, fused_loss=True))[0].logits == 0


models = st.builds(
    lambda heads, layers, width, vocab, tied: read_shape(
        {
            "model_type": "llama",
            "hidden_size": 64 * heads,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 64 * width,
            "vocab_size": vocab,
            "tie_word_embeddings": tied,
        }
    ),
    heads=st.integers(1, 128),
    layers=st.integers(1, 40),
    width=st.integers(1, 400),
    vocab=st.integers(100, 200_000),
    tied=st.booleans(),
)
precisions = st.sampled_from(["bf16", "fp16", "fp32"])


@given(model=models, precision=precisions, ranks=st.integers(2, 512), on_cpu=st.booleans())
def test_bytes_never_increase_down_the_ladder(model: ModelShape, precision: str, ranks: int, on_cpu: bool) -> None:
    rungs = weigh(workload(model, precision=precision, data_parallel=ranks, on_cpu=on_cpu))
    z0, z1, z2, z3, z2_offloaded, z3_offloaded, z3_all_offloaded = (states(rung) for rung in rungs)
    assert z0 >= z1 >= z2 >= z3 >= z3_offloaded >= z3_all_offloaded
    assert z2 >= z2_offloaded >= z3_offloaded


@given(model=models, precision=precisions, ranks=st.integers(1, 256), more=st.integers(1, 256), on_cpu=st.booleans())
def test_more_ranks_never_need_more_state_on_each(
    model: ModelShape, precision: str, ranks: int, more: int, on_cpu: bool
) -> None:
    few = weigh(workload(model, precision=precision, data_parallel=ranks, on_cpu=on_cpu))
    many = weigh(workload(model, precision=precision, data_parallel=ranks + more, on_cpu=on_cpu))
    assert all(states(after) <= states(before) for before, after in zip(few, many, strict=True))


@given(
    model=models,
    ranks=st.integers(1, 64),
    device=st.none() | st.integers(1, 200),
    node=st.none() | st.integers(1, 4000),
    on_cpu=st.booleans(),
    stage=st.sampled_from(["auto", 0, 1, 2, 3]),
)
def test_the_rung_taken_is_the_first_allowed_one_that_fits(
    model: ModelShape, ranks: int, device: int | None, node: int | None, on_cpu: bool, stage: Any
) -> None:
    given_device = None if on_cpu or device is None else device * GIB
    given_node = None if node is None else node * GIB
    load = workload(model, data_parallel=ranks, on_cpu=on_cpu, device_bytes=given_device, node_bytes=given_node)
    rungs = choose(load, Zero(stage=stage))
    taken = [rung for rung in rungs if rung.taken]
    assert len(taken) <= 1
    assert all(rung.reason for rung in rungs)
    allowed = [
        rung
        for rung in rungs
        if not rung.reason.startswith(("passed over: zero.", "passed over: one ", "passed over: a CPU"))
    ]
    fitting = [rung for rung in allowed if rung.fits]
    if fitting:
        assert taken == [fitting[0]]
        assert given_node is None or fitting[0].node_bytes <= USABLE * given_node
        assert on_cpu or (given_device is not None and fitting[0].device_bytes <= USABLE * given_device)
    elif not any(rung.fits is None for rung in allowed):
        assert bool(taken) == (stage != "auto")


def test_unknown_memory_takes_what_needs_least_without_touching_the_host(shape: ShapeOf) -> None:
    rungs = choose(workload(shape("llama-3.1-8b")), Zero())
    assert [rung.reason for rung in rungs if rung.taken] == ["taken: takes least; the memory of the GPUs is not known"]
    assert [rung.name for rung in rungs if rung.taken] == ["ZeRO-3"]


def test_one_rank_has_nobody_to_share_with(shape: ShapeOf) -> None:
    load = workload(shape("tiny-llama"), data_parallel=1, ranks_per_node=1, on_cpu=True, node_bytes=8 * GIB)
    alone, on_cpu = (
        "passed over: one data-parallel rank has nobody to share with",
        "passed over: a CPU rank's memory is the node's already",
    )
    assert reasons(choose(load, Zero())) == [
        ("ZeRO-0", "taken: the first that fits"),
        ("ZeRO-1", alone),
        ("ZeRO-2", alone),
        ("ZeRO-3", alone),
        ("ZeRO-2 + optimizer on CPU", on_cpu),
        ("ZeRO-3 + optimizer on CPU", on_cpu),
        ("ZeRO-3 + optimizer, weights on CPU", on_cpu),
    ]


PRESETS = [
    ({"stage": 2}, (2, "none", "none")),
    ({"stage": 3}, (3, "none", "none")),
    ({"stage": 3, "offloadOptimizer": "cpu", "offloadParam": "cpu"}, (3, "cpu", "cpu")),
    ({"stage": 2, "offloadOptimizer": "cpu"}, (2, "cpu", "none")),
    ({"stage": 0}, (0, "none", "none")),
    ({"offloadParam": "cpu"}, (3, "cpu", "cpu")),
    ({"offloadOptimizer": "cpu"}, (2, "cpu", "none")),
]


@pytest.mark.parametrize(("zero", "expected"), PRESETS)
def test_what_is_asked_for_is_taken_on_cpu_too(
    plan_training: PlanOf, zero: Any, expected: tuple[int, str, str]
) -> None:
    plan = plan_training(zero=zero, topology={"nodes": 2, "memory": "8Gi"})
    assert plan.rung is not None
    assert (plan.rung.stage, plan.rung.offload_optimizer, plan.rung.offload_param) == expected
    assert plan.deepspeed is not None
    settings = plan.deepspeed["zero_optimization"]
    offloads = {name: settings.get(f"offload_{name}") for name in ("optimizer", "param")}
    wanted = {"cpu": {"device": "cpu", "pin_memory": False}, "none": None}
    assert settings["stage"] == expected[0]
    assert offloads == {"optimizer": wanted[expected[1]], "param": wanted[expected[2]]}


def test_what_does_not_go_together_is_refused(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(zero={"stage": 3, "offloadOptimizer": "none", "offloadParam": "cpu"}, topology={"memory": "8Gi"})
    assert caught.value.message == "zero.stage 3, offloadOptimizer none and offloadParam cpu do not go together"


H100 = {"gpusPerNode": 8, "accelerator": {"product": "NVIDIA-H100-80GB-HBM3"}, "memory": "1000Gi"}


def test_a_model_that_is_too_large_is_refused_with_what_would_fit(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-70b", topology=H100)
    assert caught.value.message.startswith(
        "70,553,706,496 parameters in bf16, micro batch 1 of 128 tokens, do not fit on 8 ranks: "
    )
    assert caught.value.hint == "this would fit: topology.nodes: 4 and training.gradientCheckpointing: true"
    assert plan_training(on="llama-3.1-70b", topology=H100 | {"nodes": 4}, training={"gradientCheckpointing": True})


def test_a_batch_that_is_too_large_is_refused_with_what_would_fit(plan_training: PlanOf) -> None:
    long = {"train": {"uris": ["s3://data/d.jsonl"]}, "maxLength": 8192}
    topology = H100 | {"nodes": 2}
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology=topology, data=long, training={"perDeviceTrainBatchSize": 8})
    hint = "this would fit: training.gradientCheckpointing: true and training.perDeviceTrainBatchSize: 1"
    assert caught.value.hint == hint
    smaller = {"perDeviceTrainBatchSize": 1, "gradientCheckpointing": True}
    assert plan_training(on="llama-3.1-8b", topology=topology, data=long, training=smaller)


def test_a_fixed_stage_whose_states_cannot_fit_is_refused_with_what_would(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology=H100, zero={"stage": 0})
    assert caught.value.hint == "this would fit: zero.stage: auto"


def test_a_fixed_stage_that_may_just_fit_is_taken_with_a_warning(plan_training: PlanOf) -> None:
    topology = H100 | {"accelerator": {"memory": "38Gi"}}
    plan = plan_training(on="llama-3.1-8b", topology=topology, zero={"stage": 2, "offloadOptimizer": "none"})
    assert plan.rung is not None
    assert plan.rung.name == "ZeRO-2"
    assert plan.notes == (f"ZeRO-2 was {plan.rung.reason}",)
    assert "asked for, but it is not expected to fit" in plan.rung.reason


def test_nodes_with_too_little_memory_are_told_how_much_it_takes(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology=H100 | {"memory": "16Gi"})
    assert caught.value.message.endswith("of a node's memory, usable are 13.6 GiB of 16.0 GiB")
    remedy, memory = caught.value.hint.rsplit(" ", 1)
    assert remedy == "this would fit: topology.memory:"
    assert plan_training(on="llama-3.1-8b", topology=H100 | {"memory": memory})


def test_a_cpu_node_with_too_little_memory_is_told_how_much_it_takes(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology={"memory": "64Gi"}, zero={"stage": 0})
    remedy, memory = caught.value.hint.rsplit(" ", 1)
    assert remedy == "this would fit: topology.memory:"
    assert plan_training(on="llama-3.1-8b", topology={"memory": memory}, zero={"stage": 0})

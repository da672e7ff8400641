"""ZeRO candidates: bytes that follow from P, G and L, and the choice among them with its reasons (R28, R31)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_operator.plan import Plan
from zerotune_trainer.config.training import Zero
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.candidates import choose_candidate, judge
from zerotune_trainer.sizing.memory import ZeroCandidate, estimate_memory
from zerotune_trainer.sizing.shape import ModelShape, read_shape
from zerotune_trainer.sizing.workload import GIB, Workload, default_settings

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
            "settings": default_settings(shape, on_cpu=False),
            **changes,
        }
    )


def reasons(candidates: tuple[ZeroCandidate, ...]) -> list[tuple[str, str]]:
    return [(candidate.name, candidate.reason) for candidate in candidates]


def peak(candidate: ZeroCandidate) -> int:
    return candidate.device_bytes - candidate.weights - candidate.optimizer - candidate.process


def test_states_and_step_are_those_of_the_table(shape: ShapeOf) -> None:
    """bf16 with AdamW, of one rank: 16 bytes a parameter after the backward pass and 20 to 22 in the step."""
    model = shape("llama-3.1-70b")
    parameters, ranks = model.parameters, 16
    alone = {each.name: each for each in estimate_memory(workload(model, data_parallel=1, ranks_per_node=1))}
    assert [alone[f"ZeRO-{stage}"].states / parameters for stage in range(4)] == [16, 16, 16, 16]
    steps = [alone[f"ZeRO-{stage}"] for stage in range(3)]
    assert [(each.weights + each.optimizer + each.step) / parameters for each in steps] == [20, 22, 22]
    together = {each.name: each for each in estimate_memory(workload(model, data_parallel=ranks))}
    share = parameters // ranks
    assert together["ZeRO-1"].states == 4 * parameters + 12 * share
    assert together["ZeRO-2"].states == 2 * parameters + 14 * share
    assert together["ZeRO-3"].states == 16 * share
    assert together["ZeRO-3 + optimizer on CPU"].states == 2 * share
    assert together["ZeRO-3 + optimizer, weights on CPU"].states == 0


def test_backward_pass_and_optimizer_step_are_never_added(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    for load in (workload(model), workload(model, sequence_length=16), workload(model, micro_batch=16)):
        for each in estimate_memory(load):
            backward = each.gradients + each.activations + each.logits + each.buffers
            assert peak(each) == max(backward, each.step)


def test_small_sub_groups_make_the_step_of_stage_3_small(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    settings = default_settings(model, on_cpu=False)
    whole, small = (
        next(
            each
            for each in estimate_memory(
                workload(
                    model,
                    data_parallel=1,
                    sequence_length=16,
                    settings=settings.model_copy(update={"sub_group_size": size}),
                )
            )
            if each.stage == 3
        )
        for size in (10**10, 10**8)
    )
    at_once = 10**8 + model.vocab_size * model.hidden_size
    assert whole.device_bytes - whole.process == 22 * model.parameters
    assert small.step == 2 * model.parameters + 6 * at_once


def test_fp32_has_no_second_copy_of_weights_at_stage_0(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    assert estimate_memory(workload(model, precision="fp32"))[0].states == 16 * model.parameters


def test_on_cpu_too_the_output_is_copied_where_it_is_written(shape: ShapeOf) -> None:
    """Gradients and activations are gone by then, and of a few tokens they take less than a copy of all weights."""
    model = shape("llama-3.1-8b")
    load = workload(model, data_parallel=64, ranks_per_node=1, on_cpu=True, sequence_length=64)
    taken = next(each for each in estimate_memory(load) if each.name == "ZeRO-3")
    assert taken.node_bytes == GIB + taken.weights + taken.optimizer + 2 * model.parameters > taken.device_bytes


def test_a_host_holds_moments_gradients_and_pinned_buffers_of_powers_of_two(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    alone = workload(model, data_parallel=8)
    share = -(-model.parameters // 8)
    by_name = {each.name: each for each in estimate_memory(alone)}
    optimizer = 12 * share + 2**32 + 4 * 2**0 * 0 + 2**31
    rest = 1 << (4 * (share - 10**9) - 1).bit_length()
    assert by_name["ZeRO-3 + optimizer on CPU"].host_bytes == GIB + optimizer + rest
    assert by_name["ZeRO-3 + optimizer, weights on CPU"].host_bytes == GIB + optimizer + rest + 2**31
    assert by_name["ZeRO-3"].host_bytes == GIB
    assert by_name["ZeRO-3"].node_bytes == 8 * GIB + 2 * model.parameters


def test_weights_stored_in_another_format_are_copied_by_every_rank_that_loads(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    as_stored, converted = (
        estimate_memory(workload(model.model_copy(update={"stored_dtype": dtype})))[0].host_bytes - GIB
        for dtype in ("bfloat16", "float32")
    )
    assert (as_stored, converted) == (0, 2 * model.parameters)


def test_activations_follow_the_measured_formulas(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    tokens, hidden, layers = 2 * 2048, model.hidden_size, model.layers
    plain, eager, recomputed, fused = (
        estimate_memory(workload(model, micro_batch=2, **changes))[0]
        for changes in (
            {},
            {"attention": "eager"},
            {"gradient_checkpointing": True},
            {"liger_kernel": True},
        )
    )
    layer = 16 * hidden + 8 * 14336 + 4 * hidden + 4 * 1024 + 4 * 32
    assert layer / hidden == pytest.approx(49.0, abs=0.05)
    assert plain.activations == tokens * (layers * layer + 10 * hidden)
    assert plain.logits == 12 * tokens * model.vocab_size
    assert eager.activations - plain.activations == tokens * layers * 6 * model.heads * 2048
    assert recomputed.activations + recomputed.logits == tokens * (
        2 * hidden * layers + max(12 * model.vocab_size + 8 * hidden, layer + 2 * hidden + 4 * 14336)
    )
    assert fused.activations < plain.activations
    assert fused.logits == 2 * model.vocab_size * hidden


def test_an_evaluation_with_many_rows_counts_where_it_takes_most(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    none, large = (estimate_memory(workload(model, sequence_length=512, evaluation_batch=rows))[3] for rows in (0, 64))
    assert (none.peak, large.peak) == ("backward", "evaluation")
    assert large.device_bytes > none.device_bytes


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
def test_states_never_increase_from_one_candidate_to_the_next(
    model: ModelShape, precision: str, ranks: int, on_cpu: bool
) -> None:
    candidates = estimate_memory(workload(model, precision=precision, data_parallel=ranks, on_cpu=on_cpu))
    z0, z1, z2, z3, z2_offloaded, z3_offloaded, z3_all_offloaded = (each.states for each in candidates)
    assert z0 >= z1 >= z2 >= z3 >= z3_offloaded >= z3_all_offloaded
    assert z2 >= z2_offloaded >= z3_offloaded


@given(model=models, precision=precisions, ranks=st.integers(1, 256), more=st.integers(1, 256), on_cpu=st.booleans())
def test_more_ranks_never_need_more_state_on_each(
    model: ModelShape, precision: str, ranks: int, more: int, on_cpu: bool
) -> None:
    few = estimate_memory(workload(model, precision=precision, data_parallel=ranks, on_cpu=on_cpu))
    many = estimate_memory(workload(model, precision=precision, data_parallel=ranks + more, on_cpu=on_cpu))
    assert all(after.states <= before.states for before, after in zip(few, many, strict=True))


@given(
    model=models,
    ranks=st.integers(1, 64),
    device=st.none() | st.integers(1, 200),
    node=st.none() | st.integers(1, 4000),
    on_cpu=st.booleans(),
    stage=st.sampled_from(["auto", 0, 1, 2, 3]),
)
def test_taken_is_the_first_allowed_one_that_fits(
    model: ModelShape, ranks: int, device: int | None, node: int | None, on_cpu: bool, stage: Any
) -> None:
    given_device = None if on_cpu or device is None else device * GIB
    given_node = None if node is None else node * GIB
    load = workload(model, data_parallel=ranks, on_cpu=on_cpu, device_bytes=given_device, node_bytes=given_node)
    candidates = choose_candidate(load, Zero(stage=stage))
    taken = [each for each in candidates if each.taken]
    allowed = [each for each in candidates if each.allowed]
    assert len(taken) <= 1
    assert all(each.reason for each in candidates)
    fitting = [each for each in allowed if each.verdict == "fits" and each.offload_optimizer == "none"]
    if fitting:
        assert taken == [fitting[0]]
        assert given_node is None or fitting[0].node_bytes <= 0.8 * given_node
        assert on_cpu or (given_device is not None and fitting[0].device_bytes <= 0.8 * given_device)
    elif any(each.verdict != "does not fit" for each in allowed):
        assert taken
        assert taken[0].verdict != "does not fit"
    else:
        assert bool(taken) == (stage != "auto")


def test_verdict_is_in_three_and_unknown_where_the_memory_is() -> None:
    assert [judge(needed, 100) for needed in (80, 81, 100, 101)] == ["fits", "tight", "tight", "does not fit"]
    assert judge(1, None) == "unknown"


def test_what_is_tight_on_the_gpu_is_taken_before_anything_is_moved_to_the_host(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    needed = estimate_memory(workload(model))[3].device_bytes
    load = workload(model, device_bytes=round(needed / 0.95), node_bytes=2000 * GIB)
    (taken,) = [each for each in choose_candidate(load, Zero()) if each.taken]
    assert (taken.name, taken.verdict) == ("ZeRO-3", "tight")
    assert taken.reason == "taken: the first that can fit, but tight: 95% of a GPU, 1% of a node"


def test_a_host_that_cannot_hold_the_output_rejects_a_job_on_gpus(shape: ShapeOf) -> None:
    load = workload(shape("llama-3.1-8b"), device_bytes=80 * GIB, node_bytes=16 * GIB)
    assert not any(each.taken for each in choose_candidate(load, Zero()))


def test_offloading_to_a_host_of_unknown_memory_is_not_taken_to_fit(shape: ShapeOf) -> None:
    load = workload(shape("llama-3.1-8b"), device_bytes=24 * GIB)
    verdicts = {each.name: each.verdict for each in choose_candidate(load, Zero())}
    assert (verdicts["ZeRO-3"], verdicts["ZeRO-3 + optimizer on CPU"]) == ("does not fit", "unknown")


def test_unknown_memory_takes_what_needs_least_without_touching_the_host(shape: ShapeOf) -> None:
    (taken,) = [each for each in choose_candidate(workload(shape("llama-3.1-8b")), Zero()) if each.taken]
    assert (taken.name, taken.reason) == ("ZeRO-3", "taken: takes least; the memory of the GPUs is not known")


def test_one_rank_has_nobody_to_share_with(shape: ShapeOf) -> None:
    load = workload(shape("tiny-llama"), data_parallel=1, ranks_per_node=1, on_cpu=True, node_bytes=8 * GIB)
    alone, on_cpu = (
        "not taken: one data-parallel rank has nobody to share with",
        "not taken: a CPU rank's memory is the node's already",
    )
    assert reasons(choose_candidate(load, Zero())) == [
        ("ZeRO-0", "taken: the first that fits"),
        ("ZeRO-1", alone),
        ("ZeRO-2", alone),
        ("ZeRO-3", "not taken: fits too, but shares out more than it must"),
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
    taken = plan.candidate
    assert taken is not None
    assert (taken.stage, taken.offload_optimizer, taken.offload_param) == expected
    assert plan.deepspeed is not None
    settings = plan.deepspeed["zero_optimization"]
    offloads = {name: settings.get(f"offload_{name}") for name in ("optimizer", "param")}
    wanted = {"cpu": {"device": "cpu", "pin_memory": False}, "none": None}
    assert settings["stage"] == expected[0]
    assert offloads == {"optimizer": wanted[expected[1]], "param": wanted[expected[2]]}


def test_what_does_not_go_together_is_rejected(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(zero={"stage": 3, "offloadOptimizer": "none", "offloadParam": "cpu"}, topology={"memory": "8Gi"})
    assert caught.value.message == "zero.stage 3, offloadOptimizer none and offloadParam cpu do not go together"


H100 = {"gpusPerNode": 8, "accelerator": {"product": "NVIDIA-H100-80GB-HBM3"}, "memory": "1000Gi"}


def test_a_model_that_is_too_large_is_rejected_with_what_would_fit(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-70b", topology=H100)
    assert caught.value.message.startswith(
        "70,553,706,496 parameters in bf16, micro batch 1 of 128 tokens, do not fit on 8 ranks: "
    )
    assert caught.value.hint == "this would fit: topology.nodes: 4 and training.gradientCheckpointing: true"
    assert plan_training(on="llama-3.1-70b", topology=H100 | {"nodes": 4}, training={"gradientCheckpointing": True})


def test_a_batch_that_is_too_large_is_rejected_with_what_would_fit(plan_training: PlanOf) -> None:
    long = {"train": {"uris": ["s3://data/d.jsonl"]}, "maxLength": 8192}
    topology = H100 | {"nodes": 2}
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology=topology, data=long, training={"perDeviceTrainBatchSize": 8})
    hint = "this would fit: training.gradientCheckpointing: true and training.perDeviceTrainBatchSize: 1"
    assert caught.value.hint == hint
    smaller = {"perDeviceTrainBatchSize": 1, "gradientCheckpointing": True}
    assert plan_training(on="llama-3.1-8b", topology=topology, data=long, training=smaller)


def test_a_fixed_stage_whose_states_cannot_fit_is_rejected_with_what_would(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology=H100, zero={"stage": 0})
    assert caught.value.hint == "this would fit: zero.stage: auto"


def test_a_fixed_stage_that_may_just_fit_is_taken_with_a_warning(plan_training: PlanOf) -> None:
    topology = H100 | {"accelerator": {"memory": "38Gi"}}
    plan = plan_training(on="llama-3.1-8b", topology=topology, zero={"stage": 2, "offloadOptimizer": "none"})
    assert plan.candidate is not None
    assert plan.candidate.name == "ZeRO-2"
    assert plan.notes == ("ZeRO-2 is asked for, but tight: 91% of a GPU, 2% of a node",)


def test_nodes_with_too_little_memory_read_how_much_it_takes(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology=H100 | {"memory": "16Gi"})
    assert caught.value.message.endswith("ZeRO-3 takes 23.0 GiB of a node's 16.0 GiB")
    remedy, memory = caught.value.hint.rsplit(" ", 1)
    assert remedy == "this would fit: topology.memory:"
    assert plan_training(on="llama-3.1-8b", topology=H100 | {"memory": memory})


def test_a_cpu_node_with_too_little_memory_reports_how_much_it_takes(plan_training: PlanOf) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_training(on="llama-3.1-8b", topology={"memory": "64Gi"}, zero={"stage": 0})
    remedy, memory = caught.value.hint.rsplit(" ", 1)
    assert remedy == "this would fit: topology.memory:"
    assert plan_training(on="llama-3.1-8b", topology={"memory": memory}, zero={"stage": 0})

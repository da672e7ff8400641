"""Bytes of ZeRO candidates, which follow from P, G and L (R28)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan.candidates import ShapeOf, models, peak, workload
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.sizing.memory import estimate_memory
from zerotune_trainer.sizing.workload import GIB, default_settings


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
    """Gradients and activations are freed by then, and of a few tokens they take less than a copy of all weights."""
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
            {"liger_kernel": True, "tiled_logits": True},
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
    assert fused.logits == 4 * model.vocab_size * hidden + 32 * 4096 * 1024


def test_an_evaluation_with_many_rows_counts_where_it_takes_most(shape: ShapeOf) -> None:
    model = shape("llama-3.1-8b")
    none, large = (estimate_memory(workload(model, sequence_length=512, evaluation_batch=rows))[3] for rows in (0, 64))
    assert (none.peak, large.peak) == ("backward", "evaluation")
    assert large.device_bytes > none.device_bytes


precisions = st.sampled_from(["bf16", "fp16", "fp32"])


@given(model=models, precision=precisions, ranks=st.integers(2, 512), on_cpu=st.booleans())
def test_states_never_increase_from_one_candidate_to_the_next(
    model: ModelShape, precision: str, ranks: int, on_cpu: bool
) -> None:
    candidates = estimate_memory(workload(model, precision=precision, data_parallel=ranks, on_cpu=on_cpu))
    z0, z1, z2, z3, z2_offloaded, z3_offloaded, z3_all_offloaded = (each.states for each in candidates)
    assert z0 >= z1 >= z2 >= z3 >= z3_offloaded >= z3_all_offloaded
    assert z2 >= z2_offloaded >= z3_offloaded


@pytest.mark.slow
@given(model=models, precision=precisions, ranks=st.integers(1, 256), more=st.integers(1, 256), on_cpu=st.booleans())
def test_more_ranks_never_need_more_state_on_each(
    model: ModelShape, precision: str, ranks: int, more: int, on_cpu: bool
) -> None:
    few = estimate_memory(workload(model, precision=precision, data_parallel=ranks, on_cpu=on_cpu))
    many = estimate_memory(workload(model, precision=precision, data_parallel=ranks + more, on_cpu=on_cpu))
    assert all(after.states <= before.states for before, after in zip(few, many, strict=True))

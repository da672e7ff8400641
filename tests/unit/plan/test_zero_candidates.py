"""The choice among ZeRO candidates, with its reasons (R31)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plan.candidates import ShapeOf, models, reasons, workload
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.config.training import Zero
from zerotune_trainer.sizing.candidates import choose_candidate, judge
from zerotune_trainer.sizing.memory import estimate_memory
from zerotune_trainer.sizing.workload import GIB


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
        "not taken: with one data-parallel rank there is nothing to partition",
        "not taken: a CPU rank's memory is the node's already",
    )
    assert reasons(choose_candidate(load, Zero())) == [
        ("ZeRO-0", "taken: the first that fits"),
        ("ZeRO-1", alone),
        ("ZeRO-2", alone),
        ("ZeRO-3", "not taken: fits too, but partitions more than it must"),
        ("ZeRO-2 + optimizer on CPU", on_cpu),
        ("ZeRO-3 + optimizer on CPU", on_cpu),
        ("ZeRO-3 + optimizer, weights on CPU", on_cpu),
    ]

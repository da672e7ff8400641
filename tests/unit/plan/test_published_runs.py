"""The verdict on runs that others reported."""

from __future__ import annotations

from tests.unit.plan.published_runs import MODELS, RUNS, Run
from zerotune_trainer.config.training import Zero
from zerotune_trainer.sizing.candidates import choose_candidate
from zerotune_trainer.sizing.memory import ZeroCandidate
from zerotune_trainer.sizing.shape import read_shape
from zerotune_trainer.sizing.workload import GIB, Workload, default_settings


def estimate(run: Run) -> ZeroCandidate:
    shape = read_shape(MODELS[run.model])
    options = dict(run.options)
    settings = {key: options.pop(key) for key in ("fused_optimizer", "optimizer_bytes") if key in options}
    workload = Workload(
        shape=shape,
        precision="bf16",
        micro_batch=run.rows,
        sequence_length=run.tokens,
        data_parallel=run.gpus,
        ranks_per_node=run.gpus,
        on_cpu=False,
        settings=default_settings(shape, on_cpu=False).model_copy(update=settings),
        device_bytes=int(run.gpu_gib * GIB),
        node_bytes=run.host_gib * GIB,
        **options,
    )
    zero = Zero.model_validate(
        {
            "stage": run.stage,
            "offload_optimizer": "none" if run.offload == "none" else "cpu",
            "offload_param": "cpu" if run.offload == "all" else "none",
        }
    )
    (candidate,) = [each for each in choose_candidate(workload, zero) if each.allowed]
    return candidate


def test_no_run_that_ran_out_of_memory_is_reported_to_fit() -> None:
    failed = {run.source: estimate(run).verdict for run in RUNS if run.outcome == "out of memory"}
    assert len(failed) >= 8
    assert [source for source, verdict in failed.items() if verdict == "fits"] == []


def test_at_most_one_run_that_ran_is_reported_not_to_fit() -> None:
    ran = [(run.source, run.tokens) for run in RUNS if run.outcome == "ran" and estimate(run).verdict == "does not fit"]
    assert len(RUNS) >= 40
    assert len(ran) <= 1, ran


def test_runs_that_left_less_than_a_tenth_of_the_gpu_are_tight() -> None:
    full = [run for run in RUNS if run.used_gib and run.used_gib > 0.9 * run.gpu_gib]
    assert len(full) >= 2
    assert {estimate(run).verdict for run in full} == {"tight"}


def test_reported_figures_are_met_from_three_quarters_up() -> None:
    """nvidia-smi and torch's allocator count what is cached for later, too, so that a report is rather above."""
    ratios = [estimate(run).device_bytes / GIB / run.used_gib for run in RUNS if run.used_gib]
    assert len(ratios) >= 14
    assert all(0.75 <= ratio <= 1.05 for ratio in ratios), sorted(ratios)

"""A job whose reference is another model is planned with the memory that the reference takes before training."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.plan.conftest import fine_tune_job, shape_of
from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.kubernetes.layout import place
from zerotune_operator.plan import Plan, identity_of, plan_job
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.reference import reference_memory

GIB = 1 << 30


def referring(**spec: Any) -> Job:
    preference = {"referenceModel": {"uri": "pvc://models/judge"}}
    topology = {"gpusPerNode": 8, "accelerator": {"memory": "80Gi"}}
    return fine_tune_job(**{"method": "dpo", "preference": preference, "topology": topology, **spec})


def plan_of(job: Job, reference: ModelShape | None) -> Plan:
    layout = place(job, 0, str(job.spec.model.uri))
    return plan_job(job, shape_of("tiny-llama"), layout, identity_of(job), reference)


def test_ranks_read_the_reference_where_its_claim_is_mounted() -> None:
    config: Any = plan_of(referring(), None).config
    assert config.preference.reference_model.uri == "file:///mnt/pvc/models/judge"


def test_a_reference_whose_shape_is_not_known_is_not_counted_and_the_plan_says_so() -> None:
    assert any("is not known here, and not counted" in note for note in plan_of(referring(), None).notes)


def test_a_large_reference_fits_where_it_is_partitioned_and_is_rejected_where_it_is_not() -> None:
    large = shape_of("llama-3.1-70b")
    notes = plan_of(referring(zero={"stage": 3}), large).notes
    assert any("before training it takes" in note for note in notes)
    with pytest.raises(ConfigurationError, match=r"takes 13.* GiB of a GPU before training, which has 80") as caught:
        plan_of(referring(zero={"stage": 2}), large)
    assert caught.value.hint.startswith("use zero.stage: 3, which partitions it")


@pytest.mark.slow
@settings(max_examples=20)
@given(ranks=st.integers(1, 64), batch=st.integers(1, 32))
def test_a_part_of_the_reference_never_takes_more_than_all_of_it_and_what_is_gathered(ranks: int, batch: int) -> None:
    workload = plan_of(referring(), None).workload
    assert workload is not None
    workload = workload.model_copy(update={"data_parallel": ranks, "micro_batch": batch})
    shape = shape_of("llama-3.1-70b")
    whole, part = (reference_memory(shape, workload, stage) for stage in (0, 3))
    assert part.weights <= whole.weights == 2 * shape.parameters
    assert part.device_bytes - part.gathered <= whole.device_bytes

"""global = micro x accumulation x data-parallel, whatever is left out; else the nearest valid sizes are named (R50)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_operator.plan.batch import Batch, inference_batch, training_batch
from zerotune_trainer.config.training import Training
from zerotune_trainer.errors import ConfigurationError

sizes = st.integers(min_value=1, max_value=64)
maybe = st.none() | sizes


def training(wanted: int | None, micro: int | None, accumulation: int | None) -> Training:
    return Training(
        global_batch_size=wanted, per_device_train_batch_size=micro, gradient_accumulation_steps=accumulation
    )


KNOWN = [
    ((None, None, None), 4, (4, 1, 1)),
    ((32, None, None), 4, (32, 8, 1)),
    ((32, 2, None), 4, (32, 2, 4)),
    ((32, None, 2), 4, (32, 4, 2)),
    ((None, 2, 3), 4, (24, 2, 3)),
    ((None, 2, None), 4, (8, 2, 1)),
    ((None, None, 3), 4, (12, 1, 3)),
    ((24, 2, 3), 4, (24, 2, 3)),
]


@pytest.mark.parametrize(("given_sizes", "ranks", "expected"), KNOWN)
def test_what_is_left_out_follows_from_the_rest(
    given_sizes: tuple[int | None, int | None, int | None], ranks: int, expected: tuple[int, int, int]
) -> None:
    batch = training_batch(training(*given_sizes), ranks)
    total, micro, accumulation = expected
    assert batch == Batch(global_size=total, micro=micro, accumulation=accumulation, data_parallel=ranks)


COMPLETE = "perDeviceTrainBatchSize 2 x gradientAccumulationSteps 2"

CONTRADICTIONS = [
    (
        (30, 4, None),
        4,
        "training.globalBatchSize 30 is not perDeviceTrainBatchSize 4 x accumulation x 4 data-parallel ranks",
        "set globalBatchSize to 16 or 32, the nearest that fits, or leave it out",
    ),
    (
        (3, None, None),
        4,
        "training.globalBatchSize 3 is not micro batch x accumulation x 4 data-parallel ranks",
        "set globalBatchSize to 4, the nearest that fits, or leave it out",
    ),
    (
        (20, 2, 2),
        2,
        f"training.globalBatchSize 20 is not {COMPLETE} x 2 data-parallel ranks",
        "set globalBatchSize to 8, the nearest that fits, or leave it out",
    ),
]


@pytest.mark.parametrize(("given_sizes", "ranks", "message", "hint"), CONTRADICTIONS)
def test_a_contradiction_names_the_nearest_valid_sizes(
    given_sizes: tuple[int | None, int | None, int | None], ranks: int, message: str, hint: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        training_batch(training(*given_sizes), ranks)
    assert (caught.value.message, caught.value.hint) == (message, hint)


@given(wanted=st.none() | st.integers(min_value=1, max_value=4096), micro=maybe, accumulation=maybe, ranks=sizes)
def test_a_batch_is_the_product_of_its_parts_or_rejected_with_sizes_that_work(
    wanted: int | None, micro: int | None, accumulation: int | None, ranks: int
) -> None:
    try:
        batch = training_batch(training(wanted, micro, accumulation), ranks)
    except ConfigurationError as error:
        offered = [int(number) for number in re.findall(r"\d+", error.hint)]
        assert offered
        for size in offered:
            assert training_batch(training(size, micro, accumulation), ranks).global_size == size
        return
    assert batch.global_size == batch.micro * batch.accumulation * batch.data_parallel
    assert (wanted or batch.global_size, micro or batch.micro) == (batch.global_size, batch.micro)
    assert (accumulation or batch.accumulation, ranks) == (batch.accumulation, batch.data_parallel)


@given(wanted=st.none() | st.integers(min_value=1, max_value=4096), share=maybe, ranks=sizes)
def test_records_are_shared_out_evenly_or_rejected_with_sizes_that_work(
    wanted: int | None, share: int | None, ranks: int
) -> None:
    try:
        batch = inference_batch(wanted, share, ranks)
    except ConfigurationError as error:
        offered = [int(number) for number in re.findall(r"\d+", error.hint)]
        assert offered
        assert all(inference_batch(size, share, ranks).global_size == size for size in offered)
        return
    assert batch.global_size == batch.micro * ranks
    assert (wanted or batch.global_size, share or batch.micro) == (batch.global_size, batch.micro)


def test_eight_records_a_rank_where_nothing_is_reported() -> None:
    assert inference_batch(None, None, 4) == Batch(global_size=32, micro=8, accumulation=1, data_parallel=4)


def test_a_global_batch_that_ranks_cannot_share_is_rejected() -> None:
    with pytest.raises(ConfigurationError) as caught:
        inference_batch(10, None, 4)
    assert caught.value.message == "globalBatchSize 10 is not a multiple of 4 ranks"
    assert caught.value.hint == "set globalBatchSize to 8 or 12, the nearest that fits, or leave it out"

"""The units of work: whatever the numbers, every record is in one shard, and files sort as records do."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_trainer.config.jobs import JobIdentity
from zerotune_trainer.errors import DataError
from zerotune_trainer.inference.plan import PLAN_NAME, WorkPlan, read_plan, shard_size
from zerotune_trainer.storage import open_folder


def plan(records: int, records_per_shard: int) -> WorkPlan:
    return WorkPlan(
        job=JobIdentity(kind="InferenceJob", name="answers", uid="1"),
        config_digest="0",
        names=["generation", "error"],
        files=[],
        records=records,
        records_per_shard=records_per_shard,
        suffix=".jsonl",
    )


@pytest.mark.slow
@given(records=st.integers(1, 5000), size=st.integers(1, 300))
def test_every_record_is_in_one_chunk_in_order(records: int, size: int) -> None:
    work = plan(records, size)
    runs = [work.records_of(shard) for shard in work.shards]
    assert [number for run in runs for number in run] == list(range(records))
    assert all(1 <= len(run) <= size for run in runs)


@given(records=st.integers(1, 10**10), size=st.integers(1, 10**6))
def test_names_sort_as_chunks_do(records: int, size: int) -> None:
    work = plan(records, size)
    last = len(work.shards) - 1
    some = sorted({0, last // 3, last // 2, last})
    names = [work.file_name(shard) for shard in some]
    assert sorted(names) == names
    assert len({len(name) for name in names}) == 1


@given(
    records=st.integers(1, 10**9),
    ranks=st.integers(1, 512),
    batch_size=st.integers(1, 512),
    rows_per_file=st.integers(1, 10**6),
)
def test_chunks_are_small_enough_for_all_ranks_and_no_smaller_than_a_batch(
    records: int, ranks: int, batch_size: int, rows_per_file: int
) -> None:
    size = shard_size(records, ranks, batch_size, rows_per_file)
    assert 1 <= size <= rows_per_file
    assert size >= min(batch_size, rows_per_file)
    if ranks > 1 and batch_size < size < rows_per_file:
        assert size % batch_size == 0
    if ranks > 1 and size > batch_size:
        assert math.ceil(records / (size - batch_size)) >= 4 * ranks


@pytest.mark.parametrize(
    ("records", "ranks", "batch_size", "rows_per_file", "expected"),
    [
        (10_000_000, 64, 8, 1000, 1000),
        (100, 1, 8, 1000, 1000),
        (100, 2, 8, 1000, 16),
        (100, 2, 8, 10, 10),
        (3, 8, 8, 1000, 8),
    ],
)
def test_chunk_sizes(records: int, ranks: int, batch_size: int, rows_per_file: int, expected: int) -> None:
    assert shard_size(records, ranks, batch_size, rows_per_file) == expected


def test_a_plan_is_read_back(tmp_path: Path) -> None:
    written, output = plan(10, 3), open_folder(tmp_path.as_uri(), tmp_path)
    assert read_plan(output) is None
    output.write(PLAN_NAME, written.to_json().encode())
    found = read_plan(output)
    assert found == written
    assert found.digest == written.digest != plan(10, 4).digest
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["plan.json"]


def test_a_plan_of_another_version_is_rejected(tmp_path: Path) -> None:
    output = open_folder(tmp_path.as_uri(), tmp_path)
    output.write(PLAN_NAME, b'{"chunks": 7}')
    with pytest.raises(DataError, match=r"work/plan\.json"):
        read_plan(output)

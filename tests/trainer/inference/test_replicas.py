"""Replicas of a job, each a world of its own, on one output folder: nothing is lost with one that is killed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.inference.output_files import parts
from zerotune_devtools.harness.inference_ranks import Ranks

pytestmark = pytest.mark.slow

FILES = 20
_SECONDS = 280
GREEDY = {"maxNewTokens": 16}
SAMPLED = {"maxNewTokens": 16, "doSample": True, "temperature": 1.5, "seed": 7}


@pytest.fixture
def options(files_of_three: Any) -> dict[str, Any]:
    """60 records."""
    options: dict[str, Any] = files_of_three(3, **SAMPLED)
    return options


@pytest.fixture
def start_replicas(start_ranks: Any, job: Any) -> Callable[..., list[Ranks]]:
    """Starts the replicas of a job: `start_replicas(3, ranks=2, **options)`."""

    def start(replicas: int, **options: Any) -> list[Ranks]:
        folder = job(replicas=replicas, **options)
        return [start_ranks(folder, replica=number, replicas=replicas) for number in range(replicas)]

    return start


def markers(output: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text().splitlines()[1]) for path in output.glob("work/part-*[0-9].json")]


def assert_is_result(output: Path, expected: dict[str, bytes]) -> None:
    assert parts(output) == expected
    names = {path.name for path in output.iterdir() if not path.name.startswith(".")}
    assert names == {*expected, "manifest.json", "metrics.jsonl", "report.html", "results.json"}
    assert not list(output.glob(".*.draft"))
    records = [json.loads(line)["records"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert sum(records) == 60


def test_replicas_share_the_work_and_each_reports_all_of_it(
    tmp_path: Path, options: dict[str, Any], undisturbed_output: Any, start_replicas: Any
) -> None:
    expected = undisturbed_output(options)
    assert len(expected) == FILES
    worlds = start_replicas(2, ranks=2, **options)
    outcomes = [world.end(_SECONDS) for world in worlds]
    assert [outcome.exit_codes for outcome in outcomes] == [[0, 0], [0, 0]], [each.failure for each in outcomes]
    assert_is_result(tmp_path / "output", expected)
    for outcome in outcomes:
        assert (outcome.progress.step, outcome.progress.total, outcome.progress.failed_records) == (60, 60, 0)
        completion = next(each.completion for each in outcome.heartbeats[0] if each.completion)
        assert completion.progress.step == 60


@pytest.mark.parametrize("generation", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_a_killed_replica_loses_nothing_and_comes_back_alone(
    tmp_path: Path,
    options: dict[str, Any],
    undisturbed_output: Any,
    start_replicas: Any,
    start_ranks: Any,
    generation: Any,
) -> None:
    output, options = tmp_path / "output", options | {"generation": generation}
    expected = undisturbed_output(options)
    assert len(expected) == FILES
    first, second = start_replicas(2, ranks=1, **options)
    second.wait_until(lambda: len(markers(output)) >= 6)
    second.kill()
    again = start_ranks(tmp_path / "job", replica=1, replicas=2)
    outcomes = [first.end(_SECONDS), again.end(_SECONDS)]
    assert [outcome.exit_codes for outcome in outcomes] == [[0], [0]], [each.failure for each in outcomes]
    assert_is_result(output, expected)

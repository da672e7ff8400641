"""Engine deepspeed: each architecture gives the logits of the whole model, in as much memory as is planned."""

from __future__ import annotations

import multiprocessing
import socket

import pytest

from tests.trainer.inference.split_models import RANKS, Result, rank
from zerotune_trainer.sizing.tensor_parallel import ARCHITECTURES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def results(warm_ranks: None) -> dict[str, Result]:
    """Of rank 0, by architecture."""
    context = multiprocessing.get_context("forkserver")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    pipes = [context.Pipe() for _ in range(RANKS)]
    ranks = [context.Process(target=rank, args=(number, port, pipe)) for number, (_, pipe) in enumerate(pipes)]
    for process in ranks:
        process.start()
    first: dict[str, Result] = pipes[0][0].recv() if pipes[0][0].poll(120) else {}
    for process in ranks:
        process.kill()
    return first


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_model_that_is_split_gives_the_logits_of_the_whole_one(architecture: str, results: dict[str, Result]) -> None:
    difference, parameters, planned = results[architecture]
    assert difference < 1e-4
    assert 0.8 * planned < parameters <= 1.03 * planned

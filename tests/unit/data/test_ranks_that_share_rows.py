"""Ranks that want the same rows at once: one makes them, and whoever dies leaves nothing half."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from zerotune_trainer import data
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.errors import ZerotuneError

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., TrainConfig]
Tokenizer = PreTrainedTokenizerFast
Rows = list[dict[str, Any]]
WriteFunction = Callable[[str], dict[str, str]]
LoggingFunction = Callable[..., dict[str, str]]
Listed = Callable[[Any], list[dict[str, Any]]]


def prepare_and_exit(config: TrainConfig, tokenizer: Tokenizer, processes: int) -> None:
    """In a process of its own, as a rank: exits with the error's code, SIGTERM raises."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        data.prepare(config, tokenizer, processes)
    except ZerotuneError as error:
        sys.exit(error.exit_code)


def start(config: TrainConfig, tokenizer: Tokenizer, processes: int = 1) -> Any:
    context = multiprocessing.get_context("fork")
    process = context.Process(target=prepare_and_exit, args=(config, tokenizer, processes))
    process.start()
    return process


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_of_many_ranks_one_tokenizes(
    make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path, logging_function: LoggingFunction
) -> None:
    log = tmp_path / "log"
    function = logging_function(log, "\n    time.sleep(0.1)")
    config = make_config([{"text": str(number)} for number in range(10)], plugin=function)
    ranks = [start(config, tokenizer) for _ in range(4)]
    for rank in ranks:
        rank.join()
    assert [rank.exitcode for rank in ranks] == [0, 0, 0, 0]
    assert sorted(log.read_text().split()) == sorted(["0", *map(str, range(10))])


def test_a_rank_that_waits_can_be_stopped(
    make_config: MakeConfig, tokenizer: Tokenizer, tmp_path: Path, write_function: WriteFunction
) -> None:
    started, go = tmp_path / "started", tmp_path / "go"
    body = f"    open({str(started)!r}, 'w')\n    while not os.path.exists({str(go)!r}): time.sleep(0.02)"
    config = make_config([{"text": "x"}], plugin=write_function(body))
    builder = start(config, tokenizer)
    wait_for(started.exists)
    waiting = start(config, tokenizer)
    time.sleep(0.5)
    assert waiting.is_alive()
    waiting.terminate()
    waiting.join(10)
    assert waiting.exitcode == 143
    go.touch()
    builder.join()
    assert builder.exitcode == 0


@pytest.mark.parametrize("processes", [1, 2])
def test_a_builder_that_is_killed_leaves_nothing_half_and_no_lock(
    make_config: MakeConfig,
    tokenizer: Tokenizer,
    weaknesses: Rows,
    tmp_path: Path,
    processes: int,
    write_function: WriteFunction,
    listed: Listed,
) -> None:
    marker = tmp_path / "marker"
    body = f"    if record['id'] == 'last' and not os.path.exists({str(marker)!r}): time.sleep(60)"
    records = [*weaknesses * 3, {"id": "last", "text": "the last"}]
    options: dict[str, Any] = {"method": "cpt", "plugin": write_function(body)}
    config = make_config(records, **options)
    builder = start(config, tokenizer, processes)
    drafts = tmp_path / "cache/data"
    wait_for(lambda: any(path.stat().st_size for path in drafts.glob(".*.draft/rows.arrow")))
    os.kill(builder.pid, signal.SIGKILL)
    builder.join()
    assert [path for path in drafts.iterdir() if not path.name.startswith(".")] == []
    marker.touch()
    rows = listed(data.prepare(config, tokenizer, processes).train)
    undisturbed = make_config(records, cache="another", **options)
    assert rows == listed(data.prepare(undisturbed, tokenizer, processes).train)


def test_processes_end_with_the_one_that_started_them(
    make_config: MakeConfig, tokenizer: Tokenizer, weaknesses: Rows, tmp_path: Path, write_function: WriteFunction
) -> None:
    pids = tmp_path / "pids"
    body = f"    open({str(pids)!r}, 'a').write(f'{{os.getpid()}}\\n')\n    if record['id'] == 'last': time.sleep(60)"
    records = [*weaknesses * 3, {"id": "last", "text": "the last"}]
    config = make_config(records, method="cpt", plugin=write_function(body))
    rank = start(config, tokenizer, processes=2)
    wait_for(lambda: len(set(pids.read_text().split())) == 3 if pids.exists() else False)
    os.kill(rank.pid, signal.SIGKILL)
    rank.join()
    wait_for(lambda: not any(map(is_running, set(pids.read_text().split()))))


def is_running(pid: str) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from zerotune_devtools.benchmarks.memory import MemoryWatch
from zerotune_devtools.benchmarks.pairs import Comparison, report
from zerotune_devtools.benchmarks.steps import DifferentTrainingError, Steps, require_same_training
from zerotune_devtools.benchmarks.workload import Workload, baseline, ours
from zerotune_trainer.config import TrainConfig, load_config
from zerotune_trainer.hostfile import Hostfile


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    shape = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "vocab_size": 256}
    heads = {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 512}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text(json.dumps(shape | heads))
    return Workload("sft", steps=12, logging_steps=2, work=tmp_path)


def test_ratio_is_taken_pair_by_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = Comparison("start-up", "s", ours=[1.0, 4.0, 3.0], baseline=[2.0, 4.0, 12.0])
    report([comparison], tmp_path / "figures.json")
    (written,) = json.loads((tmp_path / "figures.json").read_text())
    assert (written["ratios"], written["ratio"]) == ([0.5, 1.0, 0.25], 0.5)
    printed = "start-up: ours 3.00 s, baseline 4.00 s, ratio 0.500 (0.250 to 1.000, 3 pairs)\n"
    assert capsys.readouterr().out == printed


def probe(folder: Path, ranks: list[list[dict[str, float]]]) -> Path:
    folder.mkdir()
    for number, lines in enumerate(ranks):
        (folder / f"{number}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def step(wall: float, cpu: float, loss: float, norm: float = 1.0) -> dict[str, float]:
    return {"wall": wall, "cpu": cpu, "loss": loss, "grad_norm": norm}


def test_times_of_a_step_leave_the_warm_up_out_and_add_the_ranks(tmp_path: Path) -> None:
    first = [step(0, 0, 3.0), step(9, 9, 2.0), step(10, 10, 1.0), step(12, 11, 0.5)]
    second = [step(0, 5, 1.0), step(9, 9, 2.0), step(10, 11, 3.0), step(12, 13, 1.5)]
    steps = Steps.read(probe(tmp_path / "probe", [first, second]), warm_up=1)
    assert (steps.wall, steps.cpu) == (1.5, 3.0)
    assert steps.losses == [2.0, 2.0, 2.0, 1.0]


def test_nothing_is_compared_where_sides_train_differently(tmp_path: Path) -> None:
    lines = [step(0, 0, 2.0), step(1, 1, 1.0)]
    same = Steps.read(probe(tmp_path / "same", [lines]), warm_up=0)
    other = Steps.read(probe(tmp_path / "other", [[step(0, 0, 2.0), step(1, 1, 1.01)]]), warm_up=0)
    still = Steps.read(probe(tmp_path / "still", [[step(0, 0, 2.0), step(1, 1, 1.0, norm=0.0)]]), warm_up=0)
    require_same_training({"floor": same, "ours": same})
    for wrong, message in ((other, "a loss of 1.01000 at step 2, not 1.00000"), (still, "gradients of norm 0.0")):
        with pytest.raises(DifferentTrainingError, match=message):
            require_same_training({"floor": same, "ours": wrong})


def test_both_sides_train_the_same_with_the_same_deepspeed_settings(workload: Workload) -> None:
    mine, theirs = ours(workload, 0), baseline(workload, "trainer_deepspeed.py", 0)
    folder = Path(mine.command[1])
    config = load_config(folder)
    assert isinstance(config, TrainConfig)
    assert Hostfile.parse((folder / "hostfile").read_text()).world_size == 2
    options = dict(zip(theirs.command[theirs.command.index("--method") :: 2], _values(theirs.command), strict=True))
    assert Path(options["--deepspeed"]).read_text() == (folder / "deepspeed.json").read_text()
    assert options["--data"] == config.data.train.uris[0].removeprefix("file://")
    assert (int(options["--steps"]), int(options["--batch"])) == (
        config.training.max_steps,
        config.training.per_device_train_batch_size,
    )
    assert int(options["--length"]) == config.data.max_length
    assert float(config.training.learning_rate) == 1e-3
    assert mine.output != theirs.output


def _values(command: list[str]) -> list[str]:
    return command[command.index("--method") + 1 :: 2]


@pytest.mark.slow
def test_memory_is_seen_while_a_process_lives() -> None:
    import subprocess
    import time

    script = "import subprocess, sys, time; x = bytearray(80_000_000); time.sleep(3)"
    process = subprocess.Popen([sys.executable, "-c", script])
    watch = MemoryWatch(process.pid)
    time.sleep(2)
    process.wait()
    peaks = watch.stop()
    assert 80_000_000 < peaks.processes[0] < 200_000_000
    assert 75_000_000 < peaks.together < 200_000_000

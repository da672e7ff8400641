"""Jobs that cannot go on: what each says, with which exit code, and that nothing is lost."""

from __future__ import annotations

import json
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerotune_trainer.sizing.model_config import shape_of_file

pytestmark = pytest.mark.slow


@pytest.fixture
def copied_model(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def of_another_shape(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 192}))


def with_a_layer_missing(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if ".layers.1." not in name}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


def with_a_bias_too_many(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.q_proj.bias"] = torch.ones(64)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def cut_short(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def with_a_link_to_nowhere(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(folder / "blobs" / "gone")


def with_a_shard_missing(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


@pytest.mark.parametrize("stage", [2, 3])
@pytest.mark.parametrize(
    ("spoil", "code", "message"),
    [
        (without_weights, 66, "holds no weights: there is no *.safetensors"),
        (of_another_shape, 64, "mlp.down_proj.weight is 64x128, config.json asks for 64x192"),
        (with_a_layer_missing, 64, "lacks the weights model.layers.1."),
        (
            with_a_bias_too_many,
            64,
            "that its config.json has no place for, which would be left out: model",
        ),
        (cut_short, 64, "is not a whole safetensors file"),
        (with_a_link_to_nowhere, 64, "model.safetensors cannot be read"),
        (with_a_shard_missing, 66, "lacks model-00002-of-00002.safetensors, which model.safetensors.index.json names"),
        (without_tokenizer, 66, "tokenizer"),
    ],
)
def test_a_model_that_is_not_whole_is_rejected(
    make_job: Any, copied_model: Path, spoil: Callable[[Path], None], code: int, message: str, stage: int
) -> None:
    spoil(copied_model)
    job = make_job(stage=stage)
    job.config["model"]["uri"] = f"file://{copied_model}"
    ended = job.run()

    assert ended.own_exit_codes == {code}
    assert message in ended.failures[0].message
    assert ended.failures[0].hint
    assert not (job.output / "metrics.jsonl").exists()


def test_a_model_that_the_job_was_not_planned_for_is_rejected(make_job: Any, model_folder: Path) -> None:
    """The next attempt may be planned for it, so the failure is one that passes."""
    job = make_job()
    planned = shape_of_file(model_folder / "config.json")
    other = planned.model_copy(update={"hidden_size": 2 * planned.hidden_size, "context": 7})
    job.config["modelShape"] = other.model_dump(by_alias=True)
    ended = job.run()

    assert ended.own_exit_codes == {75}
    failure = ended.failures[0]
    assert failure.failure_class == "ModelChanged"
    assert f"hiddenSize {planned.hidden_size} instead of {other.hidden_size}" in failure.message
    assert f"context {planned.context} instead of 7" in failure.message
    assert not (job.output / "metrics.jsonl").exists()
    job.config["modelShape"] = planned.model_dump(by_alias=True)
    job.config["training"]["maxSteps"] = 1
    assert job.run().exit_codes == [0, 0]


def test_an_output_that_is_gone_of_the_job_that_it_starts_from_is_rejected(make_job: Any, model_folder: Path) -> None:
    job = make_job()
    origin = {"field": "model.fromFineTuneJob", "kind": "FineTuneJob", "name": "cwe", "uri": model_folder.as_uri()}
    job.config["origins"] = [origin]
    ended = job.run()

    assert ended.own_exit_codes == {66}
    assert "so that what FineTuneJob cwe is to have written is gone or not whole" in ended.failures[0].message


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"training": {"precision": "fp16"}}, 64, "precision fp16 needs a CUDA device"),
        ({"training": {"useLigerKernel": True}}, 64, "training.useLigerKernel needs a CUDA device"),
        (
            {"model": {"attnImplementation": "flash_attention_2"}},
            64,
            "model.attnImplementation flash_attention_2 needs a CUDA device",
        ),
    ],
)
def test_an_unsupported_setting_is_rejected(make_job: Any, changes: dict[str, Any], code: int, message: str) -> None:
    """R15, R19, R20, R17."""
    job = make_job()
    for part, values in changes.items():
        job.config[part] = {**job.config[part], **values} if isinstance(values, dict) else values
    ended = job.run()

    assert ended.own_exit_codes == {code}
    assert message in ended.failures[0].message
    assert ended.failures[0].hint


def test_a_loss_that_is_not_a_number_is_reported_with_its_step(make_job: Any) -> None:
    job = make_job()
    job.config["training"] |= {
        "learningRate": 1e32,
        "lrSchedulerType": "constant_with_warmup",
        "warmupSteps": 3,
        "loggingSteps": 4,
        "maxSteps": 8,
    }
    job.config["checkpoint"]["saveSteps"] = 1
    job.config["evaluation"]["evalStrategy"] = "no"
    ended = job.run()

    assert ended.own_exit_codes == {64}
    message = ended.failures[0].message
    assert re.fullmatch(
        r"the loss is nan at step 3; the last finite loss was 6\.\d+; the learning rate was 6\.67e\+31", message
    )
    assert "training.learningRate" in ended.failures[0].hint
    whole = {path.parent.name for path in job.checkpoints.glob("*/manifest.json")}
    assert whole == {"checkpoint-1", "checkpoint-2"}


def test_the_output_of_another_job_is_rejected_and_left_alone(make_job: Any) -> None:
    first = make_job("first")
    assert first.run().exit_codes == [0, 0]
    before = {path: path.stat().st_mtime_ns for path in first.output.rglob("*")}
    second = make_job("second")
    second.config["output"] = first.config["output"]
    ended = second.run()

    assert ended.own_exit_codes == {64}
    assert (
        "belongs to FineTuneJob first (uid-first), this is FineTuneJob second (uid-second)" in ended.failures[0].message
    )
    assert "folder of its own" in ended.failures[0].hint
    assert {path: path.stat().st_mtime_ns for path in first.output.rglob("*")} == before


def test_the_checkpoints_of_another_job_are_rejected(make_job: Any, tmp_path: Path) -> None:
    """An output of its own does not make up for checkpoints of another."""
    first, second = make_job("first"), make_job("second")
    for job in (first, second):
        job.config["checkpoint"]["uri"] = f"file://{tmp_path}/checkpoints"
    assert first.run().exit_codes == [0, 0]
    ended = second.run()

    assert ended.own_exit_codes == {64}
    assert "belongs to FineTuneJob first" in ended.failures[0].message


def test_files_that_no_job_has_written_are_rejected(make_job: Any) -> None:
    job = make_job()
    job.output.mkdir(parents=True)
    (job.output / "thesis.txt").write_text("three years of work")
    ended = job.run()

    assert ended.own_exit_codes == {64}
    assert "holds files that no job has written: thesis.txt" in ended.failures[0].message
    assert [path.name for path in job.output.iterdir()] == ["thesis.txt"]


def test_an_output_that_cannot_be_written_is_rejected(make_job: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    job = make_job()
    job.config["output"]["uri"] = f"file://{tmp_path}/file/output"
    ended = job.run()

    assert ended.own_exit_codes == {64}
    assert f"{tmp_path}/file/output" in ended.failures[0].message


@pytest.mark.parametrize(
    "hosts", ["127.0.0.1 slots=1\n127.0.0.2 slots=2\n", "127.0.0.1 slots=1\n127.0.0.2 slots=1\n127.0.0.3 slots=1\n"]
)
def test_ranks_that_disagree_with_the_hostfile_are_rejected(make_job: Any, hosts: str) -> None:
    """The second host was given another hostfile than the first."""
    job = make_job(hosts="127.0.0.1 slots=1\n127.0.0.2 slots=1\n")
    ended = job.start({"127.0.0.2": hosts}).end()

    assert ended.exit_codes[1] == 64
    assert "rank 1 on 127.0.0.2 has the hostfile" in ended.failures[1].message


def test_a_rank_that_is_absent_from_the_rendezvous_is_named(make_job: Any) -> None:
    job = make_job(hosts="127.0.0.1 slots=1\n")
    job.config["launch"]["rendezvousTimeoutSeconds"] = 3
    ended = job.start({"127.0.0.1": "127.0.0.1 slots=1\n127.0.0.2 slots=1\n"}).end()

    assert ended.exit_codes == [69]
    assert "rank 1 on 127.0.0.2 did not join the rendezvous at 127.0.0.1:" in ended.failures[0].message


def test_a_port_in_use_is_reported(make_job: Any) -> None:
    job = make_job()
    with socket.create_server(("127.0.0.1", 0)) as server:
        job.port = server.getsockname()[1]
        ended = job.run()

    assert ended.exit_codes[0] == 75
    assert f"port {job.port}, for the rendezvous, cannot be used" in ended.failures[0].message

"""`zerotune plan`, as a user runs it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.unit.plan.plan_command import GOLDEN, MODELS, manifest, run

pytestmark = pytest.mark.slow


def job(kind: str, name: str, **spec: object) -> dict[str, object]:
    return {"apiVersion": "zerotune.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def model_folder(tmp_path: Path) -> str:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text((MODELS / "tiny-llama.json").read_text())
    return folder.as_uri()


def records(tmp_path: Path, name: str = "d.jsonl") -> str:
    path = tmp_path / name
    path.write_text('{"text": "a"}\n')
    return path.as_uri()


def training(uri: str, records: str = "s3://data/d.jsonl", **spec: object) -> dict[str, object]:
    named = {"train": {"uris": [records]}, "maxLength": 64}
    return job("FineTuneJob", "learn", **{"method": "cpt", "model": {"uri": uri}, "data": named, **spec})


def test_the_table_shows_rows_ranks_batch_and_every_candidate_with_its_reason(zerotune: Path) -> None:
    """R31: the memory estimate, before anything is started."""
    case = GOLDEN / "sft-70b-two-hosts-h100"
    done = run(zerotune, case / "job.yaml", "--model-config", MODELS / "llama-3.1-70b.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(line == line.rstrip() for line in done.stdout.splitlines()), "a pipe gets no padding"
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "FineTuneJob sft-70b on kubernetes" in lines
    first, second = (line.split()[0] for line in (case / "hostfile").read_text().splitlines())
    assert f"hosts {first}, {second}" in lines
    assert f"ranks 16 = 2 nodes x 8 on cuda, master {first}:29500" in lines
    assert "batch 128 = micro 1 x accumulation 8 x 16 data-parallel ranks" in lines
    rows = "up to 4096 tokens, attention auto, gradient checkpointing on, optimizer adamw_torch_fused"
    assert f"rows {rows}" in lines
    for candidate in (case / "candidates.txt").read_text().splitlines():
        if candidate.startswith("note: "):
            continue
        name, sizes, reason = candidate.split(": ", 2)
        device, node = sizes.split(", ")
        shown = [line for line in lines if line.removeprefix("> ").startswith(f"{name} {device} ")]
        assert len(shown) == 1
        assert shown[0].endswith(reason)
        assert f" {node} " in shown[0]
        assert shown[0].startswith("> ") == reason.startswith("taken")


def test_a_narrow_terminal_shows_the_parts_below(zerotune: Path) -> None:
    case = GOLDEN / "cpt-two-nodes-zero-2"
    command = f"{zerotune} plan {case / 'job.yaml'} --model-config {MODELS / 'tiny-llama.json'}"
    done = subprocess.run(["script", "-qec", command, "/dev/null"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for part in ("weights", "gradients", "optimizer", "activations", "logits", "buffers", "step", "host of a rank"):
        assert part in done.stdout


@pytest.mark.parametrize("columns", [40, 60, 80, 120, 149, 150, 200])
def test_nothing_vanishes_from_the_table_however_narrow_the_terminal_is(zerotune: Path, columns: int) -> None:
    case = GOLDEN / "sft-70b-two-hosts-h100"
    command = f"{zerotune} plan {case / 'job.yaml'} --model-config {MODELS / 'llama-3.1-70b.json'}"
    script = ["script", "-qec", f"unset COLUMNS; stty cols {columns}; {command}", "/dev/null"]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "…" not in done.stdout
    shown = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    for candidate in ("ZeRO-0", "ZeRO-3", "1315.2 GiB", "1644%"):
        assert candidate in shown


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_data_is_the_whole_plan_with_the_files_of_a_pod(zerotune: Path, output: str) -> None:
    case = GOLDEN / "cpt-two-nodes-zero-2"
    done = run(zerotune, case / "job.yaml", "--model-config", MODELS / "tiny-llama.json", "-o", output)
    assert (done.returncode, done.stderr) == (0, "")
    plan = yaml.safe_load(done.stdout) if output == "yaml" else json.loads(done.stdout)
    names = ("config.json", "hostfile", "deepspeed.json")
    assert plan["artifacts"] == {name: (case / name).read_text() for name in names}
    assert plan["batch"] == {"globalSize": 64, "micro": 4, "accumulation": 4, "dataParallel": 4}
    assert [each["name"] for each in plan["candidates"] if each["taken"]] == ["ZeRO-2"]


def test_a_job_may_start_from_the_output_of_one_before_it(zerotune: Path, tmp_path: Path) -> None:
    ask = job("InferenceJob", "ask", model={"fromFineTuneJob": "learn"}, data={"uris": [records(tmp_path)]})
    path = manifest(tmp_path, training(model_folder(tmp_path), topology={"nodes": 2}), ask)
    done = run(zerotune, path, "-o", "json")
    assert (done.returncode, done.stderr) == (0, "")
    learn, then_ask = json.loads(done.stdout)
    output = json.loads(learn["artifacts"]["config.json"])["output"]["uri"]
    assert output == (tmp_path / "home" / "finetunejob" / "learn" / "output").as_uri()
    assert json.loads(then_ask["artifacts"]["config.json"])["model"]["uri"] == output
    assert learn["artifacts"]["hostfile"] == "127.0.0.1 slots=1\n127.0.0.2 slots=1\n"
    assert then_ask["model"] == learn["model"]
    assert not (tmp_path / "home").exists(), "a plan leaves nothing behind"


@pytest.mark.parametrize(("r", "targets"), [(8, ["q_proj"]), (4, ["v_proj"])])
def test_training_that_goes_on_with_another_adapter_is_rejected(
    zerotune: Path, tmp_path: Path, r: int, targets: list[str]
) -> None:
    first = training(
        model_folder(tmp_path), records(tmp_path), adapter={"type": "lora", "r": 4, "targetModules": ["q_proj"]}
    )
    data = {"train": {"uris": [records(tmp_path)]}, "maxLength": 64}
    asked = {"type": "lora", "r": r, "targetModules": targets}
    folder = tmp_path / "adapter"
    folder.mkdir()
    stored = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "model"), "r": 4, "lora_alpha": 32}
    (folder / "adapter_config.json").write_text(json.dumps(stored | {"target_modules": ["q_proj"]}))
    output = (tmp_path / "home" / "finetunejob" / "learn" / "output").as_uri()
    for model, uri in (({"fromFineTuneJob": "learn"}, output), ({"uri": folder.as_uri()}, folder.as_uri())):
        then = job("FineTuneJob", "then", method="cpt", model=model, data=data, adapter=asked)
        done = run(zerotune, manifest(tmp_path, first, then))
        assert done.returncode == 64
        message = " ".join(done.stderr.split())
        assert f"model.uri {uri} holds an adapter that training goes on with, and it is another one" in message
        assert ("r is 4, the job asks for 8" if r == 8 else "targetModules is ['q_proj'], the job asks for") in message


def test_a_job_may_learn_from_the_answers_of_one_before_it(zerotune: Path, tmp_path: Path) -> None:
    model = {"uri": model_folder(tmp_path)}
    ask = job("InferenceJob", "teacher", model=model, data={"uris": [records(tmp_path)]})
    answers = {"train": {"fromInferenceJob": "teacher"}, "maxLength": 64}
    done = run(
        zerotune,
        manifest(tmp_path, ask, job("FineTuneJob", "learn", method="sft", model=model, data=answers)),
        "-o",
        "json",
    )
    assert (done.returncode, done.stderr) == (0, "")
    teacher, learn = (json.loads(plan["artifacts"]["config.json"]) for plan in json.loads(done.stdout))
    assert learn["data"]["train"]["uris"] == [teacher["output"]["uri"]]
    assert learn["data"]["train"]["fromInferenceJob"] is None


def test_an_error_in_a_file_of_several_jobs_names_the_job(zerotune: Path, tmp_path: Path) -> None:
    model = model_folder(tmp_path)
    wrong = training(model, training={"globalBatchSize": 7}, topology={"nodes": 2}) | {"metadata": {"name": "second"}}
    done = run(zerotune, manifest(tmp_path, training(model), wrong))
    assert done.stderr.startswith("error: FineTuneJob second: training.globalBatchSize 7 is not micro batch")


def test_a_batch_that_contradicts_itself_ends_with_64_and_the_nearest_sizes(zerotune: Path, tmp_path: Path) -> None:
    spec = training(model_folder(tmp_path), training={"globalBatchSize": 7}, topology={"nodes": 2})
    done = run(zerotune, manifest(tmp_path, spec))
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == (
        "error: training.globalBatchSize 7 is not micro batch x accumulation x 2 data-parallel ranks\n"
        "  hint: set globalBatchSize to 6 or 8, the nearest that fits, or leave it out\n"
    )


def test_a_job_that_does_not_fit_ends_with_64_and_what_would(zerotune: Path, tmp_path: Path) -> None:
    gpus = {"gpusPerNode": 8, "accelerator": {"product": "NVIDIA-A10"}, "memory": "1000Gi"}
    spec = training("s3://models/large", "s3://data/d", topology=gpus, output={"uri": "s3://results/r"})
    done = run(zerotune, manifest(tmp_path, spec), "--model-config", MODELS / "llama-3.1-70b.json")
    assert done.returncode == 64
    assert "ZeRO-3 + optimizer, weights on CPU" in done.stdout
    assert "does not fit: " in done.stdout
    assert "70,553,706,496 parameters in bf16, micro batch 1 of 64 tokens, do not fit on 8 ranks" in done.stderr
    assert "hint: this would fit: topology.nodes: 4\n" in done.stderr


def test_data_of_a_job_that_does_not_fit_has_the_candidates_and_the_error(zerotune: Path, tmp_path: Path) -> None:
    gpus = {"gpusPerNode": 8, "accelerator": {"product": "NVIDIA-A10"}, "memory": "1000Gi"}
    spec = training("s3://models/large", "s3://data/d", topology=gpus, output={"uri": "s3://results/r"})
    done = run(zerotune, manifest(tmp_path, spec), "--model-config", MODELS / "llama-3.1-70b.json", "-o", "json")
    assert done.returncode == 64
    plan = json.loads(done.stdout)
    assert [each["taken"] for each in plan["candidates"]] == [False] * 7
    assert plan["artifacts"] == {}
    assert plan["error"]["hint"].startswith("this would fit: ")


def test_a_model_folder_without_config_ends_with_66(zerotune: Path, tmp_path: Path) -> None:
    done = run(zerotune, manifest(tmp_path, training((tmp_path / "nowhere").as_uri())))
    assert (done.returncode, done.stdout) == (66, "")
    assert f"error: {tmp_path}/nowhere/config.json is not there\n" in done.stderr


def test_a_model_that_only_the_pods_can_read_asks_for_its_config(zerotune: Path, tmp_path: Path) -> None:
    spec = training("pvc://models/m", "s3://data/d", output={"uri": "pvc://results/r"})
    done = run(zerotune, manifest(tmp_path, spec))
    assert done.returncode == 64
    assert "or give the model's config.json: --model-config FILE" in done.stderr


def test_a_job_of_another_file_cannot_be_planned_for_a_cluster(zerotune: Path, tmp_path: Path) -> None:
    output = {"uri": "s3://results/r"}
    ask = job(
        "InferenceJob", "ask", model={"fromFineTuneJob": "elsewhere"}, data={"uris": ["s3://ddd/q"]}, output=output
    )
    judge = job("InferenceJob", "judge", model={"uri": "s3://mmm/m"}, data={"fromInferenceJob": "asked"}, output=output)
    for spec, name in ((ask, "model.fromFineTuneJob: 'elsewhere'"), (judge, "data.fromInferenceJob: 'asked'")):
        done = run(zerotune, manifest(tmp_path, spec))
        assert done.returncode == 64
        assert f"{name} is no job of this file" in done.stderr


def test_what_is_not_on_this_machine_is_named_whole(zerotune: Path, tmp_path: Path) -> None:
    data = {"train": {"uris": [f"file://{tmp_path}/a.jsonl"]}, "validation": {"uris": [f"file://{tmp_path}/v-*.jsonl"]}}
    plugin = {"file": f"file://{tmp_path}", "processing": "clean"}
    done = run(zerotune, manifest(tmp_path, training(model_folder(tmp_path), data=data, plugin=plugin)))
    assert (done.returncode, done.stdout) == (66, "")
    assert done.stderr.startswith(
        f"error: data.train.uris: {tmp_path}/a.jsonl is not there; data.validation.uris: {tmp_path}/v-*.jsonl is a "
        f"pattern that no path matches; plugin.file: {tmp_path} is a folder\n"
    )
    assert f"name the Python file: file://{tmp_path}/NAME.py" in done.stderr


def test_what_a_job_before_it_is_to_write_need_not_be_there(zerotune: Path, tmp_path: Path) -> None:
    model, output = model_folder(tmp_path), f"file://{tmp_path}/answers"
    ask = job("InferenceJob", "ask", model={"uri": model}, data={"uris": [records(tmp_path)]}, output={"uri": output})
    done = run(zerotune, manifest(tmp_path, ask, training(model, f"{output}/part-*.jsonl")))
    assert (done.returncode, done.stderr) == (0, "")


def test_a_plan_for_a_cluster_does_not_look_for_files_here(zerotune: Path, tmp_path: Path) -> None:
    spec = training("s3://mmm/m", "pvc://data/d.jsonl", output={"uri": "pvc://results/r"})
    done = run(zerotune, manifest(tmp_path, spec), "--model-config", MODELS / "tiny-llama.json")
    assert (done.returncode, done.stderr) == (0, "")

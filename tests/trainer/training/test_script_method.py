"""Method script: the example of the quick start, and scripts that know nothing of zerotune, on real ranks."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import boto3
import pytest

from zerotune_trainer.errors import ConfigurationError, InputMissingError, PeerLostError, StoppedError
from zerotune_trainer.manifest import Manifest, differences, read_manifest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[3] / "examples" / "quickstart" / "own_script.py"
PLAIN = """
import os, sys
from pathlib import Path

import torch.distributed as dist

from beside import NAME

dist.init_process_group("gloo")
ranks = [None] * dist.get_world_size()
dist.all_gather_object(ranks, f"{sys.argv[1:]} {os.environ['RANK']} of {os.environ['WORLD_SIZE']}")
if dist.get_rank() == 0:
    Path(os.environ["ZEROTUNE_OUTPUT"], NAME).write_text(str(ranks))
dist.destroy_process_group()
sys.exit(0)
"""
REMOVES = """
import shutil
from zerotune_trainer import script_job

job = script_job.current()
shutil.rmtree(job.output, ignore_errors=True)
"""


@pytest.fixture
def make_script_job(make_job: Any) -> Any:
    """Make a job of two ranks that runs a script."""

    def make(name: str, script: Path, *arguments: str) -> Any:
        job = make_job(name)
        job.config |= {"method": "script", "script": {"file": f"file://{script}", "arguments": list(arguments)}}
        job.config["checkpoint"]["saveSteps"] = 100
        job.deepspeed |= {"train_micro_batch_size_per_gpu": 2, "gradient_accumulation_steps": 1}
        return job

    return make


def losses_of(job: Any) -> list[float]:
    lines = (job.output / "zerotune-metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_the_example_learns_stops_and_goes_on_where_it_stopped(make_script_job: Any) -> None:
    whole = make_script_job("whole", EXAMPLE, "8")
    ended = whole.run()
    assert ended.exit_codes == [0, 0], ended.log
    losses = losses_of(whole)
    assert len(losses) == 8 and losses[-1] < losses[0] - 0.2
    (completion,) = [each.completion for each in ended.heartbeats if each.completion is not None]
    assert (completion.progress.step, completion.progress.loss) == (8, pytest.approx(losses[-1]))

    stopped = make_script_job("stopped", EXAMPLE, "8")
    running = stopped.start()
    running.until(lambda heartbeat: heartbeat.step >= 3)
    running.signal(signal.SIGTERM)
    ended = running.end()
    assert ended.exit_codes == [StoppedError.exit_code] * 2, ended.log
    assert read_manifest(stopped.output) is None
    stopped.config["job"]["attempt"] = 1
    ended = stopped.run()
    assert ended.exit_codes == [0, 0], ended.log
    assert losses_of(stopped) == pytest.approx(losses, rel=1e-5)

    manifest = read_manifest(stopped.output)
    assert manifest is not None and differences(stopped.output, manifest) == []
    names = {file.path for file in manifest.files}
    assert names >= {"model.safetensors", "tokenizer.json", "zerotune-metrics.jsonl", "zerotune-results.json"}
    assert not any(name.startswith("checkpoints/") for name in names)
    assert "is finished" in stopped.run().log


def test_checkpoints_and_output_of_a_script_are_in_the_store(
    make_script_job: Any, store: dict[str, str], tmp_path: Path
) -> None:
    """Two hosts that share nothing else; the second attempt's have empty disks, and the first was killed."""
    job = make_script_job("job", EXAMPLE, "6")
    job.hosts, job.environment = "127.0.0.1 slots=1\n127.0.0.2 slots=1\n", store
    job.config["output"]["uri"], job.config["checkpoint"]["saveSteps"] = "s3://results/job", 3
    for attempt in (0, 1):
        job.config["job"]["attempt"] = attempt
        job.cache_of = {host: str(tmp_path / f"attempt-{attempt}" / host) for host in ("127.0.0.1", "127.0.0.2")}
        running = job.start()
        if attempt == 0:
            running.until(lambda heartbeat: heartbeat.step >= 4)
            running.signal(signal.SIGKILL)
        ended = running.end()
    assert ended.exit_codes == [0, 0], ended.log
    assert min(beat.progress.first_step for beat in ended.heartbeats if beat.progress is not None) == 3
    objects = {each.key: each for each in boto3.resource("s3").Bucket("results").objects.all()}
    manifest = Manifest.model_validate_json(objects["job/manifest.json"].get()["Body"].read())
    assert all(objects[f"job/{file.path}"].size == file.size for file in manifest.files)
    records = objects["job/zerotune-metrics.jsonl"].get()["Body"].read().decode().splitlines()
    assert [json.loads(record)["step"] for record in records] == [1, 2, 3, 4, 5, 6]


def test_a_script_that_knows_nothing_of_zerotune_runs_as_under_any_launcher(
    make_script_job: Any, tmp_path: Path
) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    (tmp_path / "beside.py").write_text("NAME = 'ranks.txt'\n")
    job = make_script_job("plain", tmp_path / "plain.py", "--here")
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.log
    assert (job.output / "ranks.txt").read_text() == """["['--here'] 0 of 2", "['--here'] 1 of 2"]"""
    manifest = read_manifest(job.output)
    assert manifest is not None and "ranks.txt" in [file.path for file in manifest.files]


def test_files_of_a_script_with_names_of_ours_are_kept(make_script_job: Any, tmp_path: Path) -> None:
    code = "from zerotune_trainer import script_job\njob = script_job.current()\n"
    code += "job.progress(1, 1, loss=0.5)\nif job.context.rank == 0:\n"
    code += "    for name in ('metrics.jsonl', 'results.json', 'manifest.json'):\n"
    code += "        (job.output / name).write_text('mine')\n"
    (tmp_path / "names.py").write_text(code)
    job = make_script_job("names", tmp_path / "names.py")
    ended = job.run()
    assert ended.exit_codes == [0, 0], ended.log
    manifest = read_manifest(job.output)
    assert manifest is not None and differences(job.output, manifest) == []
    for name in ("metrics.jsonl", "results.json", "script-manifest.json"):
        assert (job.output / name).read_text() == "mine"
        assert name in [file.path for file in manifest.files]
    assert json.loads((job.output / "zerotune-results.json").read_text())["trainLoss"] == 0.5
    (completion,) = [each.completion for each in ended.heartbeats if each.completion is not None]
    assert completion.progress.step == 1
    assert ["is kept as script-manifest.json" in text for text in completion.progress.warnings] == [True]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("x = 1\nraise KeyError('weights')\n", "bad.py failed: KeyError: 'weights' (line 2)"),
        (
            "import json\njson.loads('x')\n",
            "bad.py failed: JSONDecodeError: Expecting value: line 1 column 1 (char 0) (line 2)",
        ),
        ("x = 1\nopen('/nothing')\n", "bad.py (line 2): /nothing is not there"),
        ("import sys\nsys.exit(3)\n", "bad.py ended with exit code 3"),
        (REMOVES, "is not there any more, or its .zerotune-job.json is not: the script has removed it"),
        (REMOVES + "job.progress(1, 1)\n", "the script has removed it"),
        (REMOVES + "job.output.mkdir()\n(job.output / 'x').touch()\n", "the script has removed it"),
    ],
    ids=[
        "raises",
        "raises-in-a-library",
        "misses-a-file",
        "exits",
        "removes-its-output",
        "removes-then-reports",
        "removes-then-makes",
    ],
)
def test_a_script_that_fails_is_named_with_what_it_said(
    make_script_job: Any, tmp_path: Path, code: str, message: str
) -> None:
    (tmp_path / "bad.py").write_text(code)
    job = make_script_job("bad", tmp_path / "bad.py")
    ended = job.run()
    failures = [each for each in ended.failures.values() if each.failure_class != PeerLostError.failure_class]
    assert {each.exit_code for each in failures} == {
        InputMissingError.exit_code if "/nothing" in code else ConfigurationError.exit_code
    }, ended.log
    assert message in failures[0].message
    assert read_manifest(job.output) is None


@pytest.mark.parametrize("target", ["/etc", "/etc/hostname"])
def test_a_link_out_of_the_output_fails_the_job(make_script_job: Any, tmp_path: Path, target: str) -> None:
    """A link within it is one more file."""
    code = "import os\nfrom pathlib import Path\nif os.environ['RANK'] == '0':\n"
    code += "    output = Path(os.environ['ZEROTUNE_OUTPUT'])\n    (output / 'model').write_text('whole')\n"
    code += f"    (output / 'best').symlink_to('model')\n    (output / 'out').symlink_to({target!r})\n"
    (tmp_path / "links.py").write_text(code)
    ended = make_script_job("links", tmp_path / "links.py").run()
    assert ConfigurationError.exit_code in ended.exit_codes, ended.log
    messages = [each.message for each in ended.failures.values() if each.failure_class == "Configuration"]
    assert [f"out is a link to {target}, which is no file of the output" in each for each in messages] == [True]


def test_a_script_that_writes_nothing_to_the_output_fails(make_script_job: Any, tmp_path: Path) -> None:
    code = "from zerotune_trainer import script_job\n"
    code += "job = script_job.current()\njob.progress(1, 1, loss=0.5)\n"
    code += "if job.context.rank == 0:\n    (job.checkpoints / 'last').write_text('state')\n"
    (tmp_path / "idle.py").write_text(code)
    job = make_script_job("idle", tmp_path / "idle.py")
    ended = job.run()
    assert ended.exit_codes == [ConfigurationError.exit_code] * 2, ended.log
    message = f"file://{tmp_path}/idle.py wrote no files to the output folder file://{job.output}"
    assert {failure.message for failure in ended.failures.values()} == {message}
    assert read_manifest(job.output) is None

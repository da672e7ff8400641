"""`zerotune plan` of a job for SageMaker: which instance types fit, and what they cost."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.unit.plan.plan_command import EXAMPLES, GOLDEN, MODELS, manifest, run

pytestmark = pytest.mark.slow


def several_types(tmp_path: Path, *types: str) -> Path:
    """The example for several instance types, for these."""
    document = yaml.safe_load((EXAMPLES / "sagemaker-instance-types.yaml").read_text())
    document["spec"]["backend"]["sagemaker"]["instanceTypes"] = list(types)
    return manifest(tmp_path, document)


def test_the_table_of_instance_types_says_which_fit_and_what_they_cost(zerotune: Path, tmp_path: Path) -> None:
    file = several_types(tmp_path, "ml.g5.xlarge", "ml.p4d.24xlarge", "ml.m5.xlarge", "ml.g6e.12xlarge")
    prices = ("--price", "ml.p4d.24xlarge=37.5", "--price", "ml.g5.xlarge=1")
    done = run(zerotune, file, "--model-config", MODELS / "llama-3.1-8b.json", *prices)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert "FineTuneJob log-analyst-capacity on sagemaker, as it is on ml.p4d.24xlarge" in lines
    assert any(line.startswith("files of a node: ") for line in lines), "nothing there has pods"
    rows = [line for line in lines if line.startswith("ml.")]
    assert rows[0] == (
        "ml.p4d.24xlarge 8 x NVIDIA A100 40GB 40.0 GiB 1094.4 GiB 16 = 2 x 8 64 = 1 x 4 x 16 ZeRO-2 75.00 yes"
    )
    assert rows[1] == "ml.g6e.12xlarge 4 x NVIDIA L40S 45.0 GiB 364.8 GiB 8 = 2 x 4 64 = 1 x 8 x 8 ZeRO-2 yes"
    assert rows[2] == "ml.m5.xlarge none 15.2 GiB no: an instance has no GPUs, and topology.gpusPerNode is 8"
    assert rows[3].startswith(
        "ml.g5.xlarge 1 x NVIDIA A10G 22.5 GiB 15.2 GiB 2.00 no: 8,030,261,248 parameters in bf16"
    )


@pytest.mark.parametrize(
    ("topology", "said"),
    [
        ({}, "not known: set topology.memory and topology.accelerator.memory to what an instance has"),
        ({"memory": "2Ti"}, "not known: set topology.accelerator.memory to what an instance has"),
        ({"memory": "2Ti", "accelerator": {"memory": "288Gi"}}, "yes"),
    ],
)
def test_a_type_without_figures_fits_only_where_topology_has_them(
    zerotune: Path, tmp_path: Path, topology: dict[str, object], said: str
) -> None:
    file = several_types(tmp_path, "ml.p6-b300.48xlarge", "ml.p4d.24xlarge")
    document = yaml.safe_load(file.read_text())
    document["spec"]["topology"] |= topology
    done = run(zerotune, manifest(tmp_path, document), "--model-config", MODELS / "llama-3.1-8b.json")
    assert (done.returncode, done.stderr) == (0, "")
    rows = [" ".join(line.split()) for line in done.stdout.splitlines() if line.strip().startswith("ml.")]
    assert rows[0].startswith("ml.p6-b300.48xlarge not known")
    assert rows[0].endswith(f" {said}") and rows[1].endswith(" yes")


@pytest.mark.parametrize("known", [True, False])
def test_inference_on_a_type_without_figures_fits_where_topology_has_them(
    zerotune: Path, tmp_path: Path, known: bool
) -> None:
    document = yaml.safe_load((EXAMPLES / "sagemaker-infer.yaml").read_text())
    backend = document["spec"]["backend"]["sagemaker"]
    for name in ("instanceType", "spot", "maxWaitSeconds"):
        del backend[name]
    backend["instanceTypes"] = ["ml.p6-b300.48xlarge"]
    document["spec"]["topology"]["gpusPerNode"] = 8
    if known:
        document["spec"]["topology"] |= {"memory": "2Ti", "accelerator": {"memory": "288Gi"}}
    done = run(zerotune, manifest(tmp_path, document), "--model-config", MODELS / "llama-3.1-8b.json")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [line for line in done.stdout.splitlines() if line.strip().startswith("ml.")]
    assert row.endswith("  yes") == known
    assert ("not known: set topology.memory and topology.accelerator.memory to what" in row) != known


def test_the_data_has_the_request_with_the_instance_types_that_fit(zerotune: Path, tmp_path: Path) -> None:
    file = several_types(tmp_path, "ml.g5.xlarge", "ml.p4d.24xlarge", "ml.p5.48xlarge", "ml.g6e.12xlarge")
    done = run(zerotune, file, "--model-config", MODELS / "llama-3.1-8b.json", "-o", "yaml")
    data = yaml.safe_load(done.stdout)
    names = ["ml.p4d.24xlarge", "ml.p5.48xlarge", "ml.g6e.12xlarge"]
    preferences = [{"InstanceType": name} for name in names]
    resources = {"InstancePreferences": preferences, "InstanceCount": 2, "VolumeSizeInGB": 300}
    assert data["request"]["ResourceConfig"] == resources
    assert "EnableManagedSpotTraining" not in data["request"]
    ranks = {each["instanceType"]: each["worldSize"] for each in data["instanceTypes"]}
    assert ranks == dict(zip(names, [16, 16, 8], strict=True))
    assert list(data["leftOut"]) == ["ml.g5.xlarge"]
    assert "ml.g6e.12xlarge/deepspeed.json" in data["artifacts"]


def test_instance_types_none_of_which_fits_are_all_shown_with_the_reason(zerotune: Path, tmp_path: Path) -> None:
    file = several_types(tmp_path, "ml.g5.48xlarge", "ml.g4dn.12xlarge", "ml.m5.xlarge")
    done = run(zerotune, file, "--model-config", MODELS / "llama-3.1-70b.json")
    assert done.returncode == 64
    rows = [line for line in done.stdout.splitlines() if line.strip().startswith("ml.")]
    assert len(rows) == 3 and all(" no: " in row for row in rows)
    assert "error: the job can run on none of backend.sagemaker.instanceTypes: ml.m5.xlarge: " in done.stderr
    assert "hint: name other instance types; for ml.g5.48xlarge: " in done.stderr


@pytest.mark.parametrize("price", ["ml.p4d.24xlarge", "ml.p4d.24xlarge=nan", "ml.p4d.24xlarge=-1"])
def test_a_price_that_is_none_is_an_error(zerotune: Path, tmp_path: Path, price: str) -> None:
    done = run(zerotune, several_types(tmp_path, "ml.p4d.24xlarge"), f"--price={price}")
    assert done.returncode != 0
    said = f"'{price}' is not TYPE=USD, an instance type and what it costs an hour: write it as ml.g5.12xlarge=7.09"
    assert said in _unwrapped(done.stderr)


def test_two_prices_of_a_type_are_an_error(zerotune: Path, tmp_path: Path) -> None:
    prices = ("--price=ml.p5.48xlarge=98", "--price=ml.p4d.24xlarge=37.5", "--price=ml.p5.48xlarge=55.04")
    done = run(zerotune, several_types(tmp_path, "ml.p4d.24xlarge", "ml.p5.48xlarge"), *prices)
    assert (done.returncode, done.stdout) == (2, "")
    assert "ml.p5.48xlarge has the prices 98 and 55.04: give each type one" in _unwrapped(done.stderr)


def test_a_price_of_a_type_that_no_job_names_is_an_error_with_those_named(zerotune: Path, tmp_path: Path) -> None:
    done = run(zerotune, several_types(tmp_path, "ml.p4d.24xlarge", "ml.p5.48xlarge"), "--price=ml.g5.xlarge=1")
    assert (done.returncode, done.stdout) == (2, "")
    said = "ml.g5.xlarge is no instance type of the jobs of this file: give prices of ml.p4d.24xlarge, ml.p5.48xlarge"
    assert said in _unwrapped(done.stderr)
    done = run(zerotune, GOLDEN / "cpt-one-cpu-node" / "job.yaml", "--price=ml.g5.xlarge=1")
    assert done.returncode == 2
    assert "they name none: leave --price out" in _unwrapped(done.stderr)


def _unwrapped(text: str) -> str:
    """The text of an error without the frame around it."""
    return " ".join(text.replace("│", " ").split())


def test_a_price_of_the_only_type_is_shown_for_all_nodes(zerotune: Path) -> None:
    model = ("--model-config", MODELS / "llama-3.1-8b.json")
    done = run(zerotune, EXAMPLES / "sagemaker.yaml", *model, "--price=ml.p4d.24xlarge=37.5")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cost 75.00 USD an hour for all nodes" in [" ".join(line.split()) for line in done.stdout.splitlines()]

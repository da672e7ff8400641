"""Every method trains all parameters and an adapter at every ZeRO stage, as docs/support-matrix.md says."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.training.support_matrix import ZERO, Cell, one_of_each_method, rendered, runnable
from zerotune_trainer.manifest import differences, read_manifest

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[3] / "docs" / "support-matrix.md"
SCRIPT = Path(__file__).parents[3] / "examples" / "quickstart" / "own_script.py"
PAIRS = [{"prompt": f"Is CWE-{number} known?", "chosen": " It is.", "rejected": " It is not."} for number in (20, 79)]
EVERY_CELL = bool(os.environ.get("ZEROTUNE_EVERY_CELL"))
"""Set by `make support-matrix`, which writes the document. It takes minutes."""
RAN: set[Cell] = set()


@pytest.fixture
def make_cell_job(make_job: Any, tmp_path: Path) -> Any:
    """Make a job of one step on one rank, as a cell asks for it."""

    def make(cell: Cell) -> Any:
        method = "cpt" if cell.method in ("cpt", "script") else "sft"
        job = make_job("cell", method=method, stage=ZERO[cell.zero]["stage"], hosts="127.0.0.1 slots=1\n")
        job.config |= {"method": cell.method, "evaluation": {"evalStrategy": "no"}}
        job.config["checkpoint"] = {"saveStrategy": "no"}
        job.config["training"] |= {"maxSteps": 1}
        job.config["data"]["validationFraction"] = 0
        if cell.trained != "full":
            job.config["adapter"] = {"type": cell.trained}
        if job.config["method"] in ("dpo", "orpo", "kto"):
            (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
            job.config["data"]["train"] = {"uris": [f"file://{tmp_path}/pairs.jsonl"]}
        if cell.method == "script":
            job.config["script"] = {"file": f"file://{SCRIPT}", "arguments": ["1"]}
            job.deepspeed |= {"train_micro_batch_size_per_gpu": 2}
        return job

    return make


@pytest.mark.parametrize("cell", runnable() if EVERY_CELL else one_of_each_method(), ids=lambda cell: cell.id)
def test_a_job_of_the_cell_trains_and_writes_its_output(cell: Cell, make_cell_job: Any) -> None:
    job = make_cell_job(cell)
    ended = job.run()
    assert ended.exit_codes == [0], ended.log
    manifest = read_manifest(job.output)
    assert manifest is not None and manifest.step == 1 and differences(job.output, manifest) == []
    names = {file.path for file in manifest.files}
    assert ("model.safetensors" if cell.trained == "full" else "adapter_model.safetensors") in names
    RAN.add(cell)


def test_the_document_says_what_ran_and_why_the_rest_is_rejected() -> None:
    """Where only some cells were run, those of the document that ran when it was written are taken to run still."""
    text = rendered(RAN if EVERY_CELL else set(runnable()))
    if EVERY_CELL:
        DOCUMENT.write_text(text)
    assert DOCUMENT.read_text() == text, "run `make support-matrix`"

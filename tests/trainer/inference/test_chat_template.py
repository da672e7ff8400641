"""The spec's chat template takes the place of the tokenizer's own (R34)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

BARE = "<s>{{ messages[0].content }}"


def test_r34_a_chat_template_of_the_spec_makes_the_prompts(
    tmp_path: Path, model_folder: Path, write_jsonl: Any, output_rows: Any, job: Any, run_job: Any
) -> None:
    """One that adds nothing gives what no chat template gives; the model's own gives something else."""
    data = {"uris": [write_jsonl([{"prompt": "What is XSS?"}]).as_uri()]}
    model = {"uri": model_folder.as_uri()}

    def generated(data: dict[str, Any], model: dict[str, Any]) -> str:
        outcome = run_job(job(ranks=1, data=data, model=model))
        assert outcome.exit_codes == [0], outcome.failure
        [row] = output_rows()
        shutil.rmtree(tmp_path / "output")
        return str(row["generation"])

    chat = data | {"applyChatTemplate": True}
    assert generated(chat, model | {"chatTemplate": BARE}) == generated(data, model) != generated(chat, model)

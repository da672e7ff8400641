"""The spec's chat template takes the place of the tokenizer's own (R34)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

OWN = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"


def test_r34_a_chat_template_of_the_spec_makes_the_rows_and_goes_with_the_output(
    make_job: Any, tmp_path: Path, model_folder: Path
) -> None:
    from transformers import AutoTokenizer

    turns = [{"role": "user", "content": "Name CWE-79:"}, {"role": "assistant", "content": "XSS"}]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    job = make_job(method="sft", hosts="127.0.0.1 slots=1\n")
    job.config["model"]["chatTemplate"] = OWN
    job.config["data"] |= {"train": {"uris": [(tmp_path / "chat.jsonl").as_uri()]}, "validationFraction": 0.0}
    job.config["training"] |= {"maxSteps": 1, "perDeviceTrainBatchSize": 1}
    job.config["checkpoint"]["saveStrategy"] = "no"
    ended = job.run()

    assert ended.exit_codes == [0], ended.failures
    base, trained = (AutoTokenizer.from_pretrained(folder) for folder in (model_folder, job.output))
    text = "[user] Name CWE-79:<|eos|>[assistant] XSS<|eos|>"
    assert job.results()["counts"]["train"]["tokens"] == len(base(text)["input_ids"])
    assert base.apply_chat_template(turns, tokenize=False) != text
    assert trained.apply_chat_template(turns, tokenize=False) == text

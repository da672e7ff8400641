"""Models as they are found: run in bf16 with options left alone, and with code of their own in all of their parts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


class OwnConfig(LlamaConfig):
    model_type = "own"


class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig


class OwnTokenizer(PreTrainedTokenizerFast):
    pass
"""


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture
def long_context(model_folder: Path, tmp_path: Path) -> Path:
    """The model with room for the 256 new tokens that are the default."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "long"))
    change(folder / "config.json", max_position_embeddings=512)
    return folder


@pytest.fixture
def with_code(model_folder: Path, tmp_path: Path) -> Path:
    """The model with classes of its own, which transformers does not know."""
    folder = Path(shutil.copytree(model_folder, tmp_path / "own"))
    (folder / "own.py").write_text(CODE)
    classes = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    change(folder / "config.json", model_type="own", architectures=["OwnForCausalLM"], auto_map=classes)
    tokenizer = {"AutoTokenizer": [None, "own.OwnTokenizer"]}
    change(folder / "tokenizer_config.json", tokenizer_class="OwnTokenizer", auto_map=tokenizer)
    return folder


@pytest.mark.parametrize("engine", [{}, {"engine": "deepspeed", "tensorParallel": 2}, {"engine": "zero"}], ids=str)
def test_d22_options_left_alone_run_in_bf16(
    engine: dict[str, Any], long_context: Path, write_jsonl: Any, rows_of: Any
) -> None:
    data = {"uris": [write_jsonl([{"prompt": "weakness"}, {"prompt": "a path"}]).as_uri()]}
    model = {"uri": long_context.as_uri()}
    rows = rows_of("defaults", data=data, model=model, precision="bf16", generation={}, **engine)
    assert all(row["generation"] for row in rows)


def test_d27_config_tokenizer_and_model_may_bring_code(
    with_code: Path, model_folder: Path, write_jsonl: Any, rows_of: Any
) -> None:
    data = {"uris": [write_jsonl([{"prompt": "weakness"}, {"prompt": "a path"}]).as_uri()]}
    own = {"uri": with_code.as_uri(), "trustRemoteCode": True}
    assert rows_of("own", data=data, model=own) == rows_of("known", data=data)


def test_d27_code_is_not_run_unless_allowed(with_code: Path, write_jsonl: Any, job: Any, run_job: Any) -> None:
    data = {"uris": [write_jsonl([{"prompt": "weakness"}]).as_uri()]}
    outcome = run_job(job(data=data, model={"uri": with_code.as_uri()}))
    assert outcome.exit_codes == [64, 64]
    assert "model.trustRemoteCode" in outcome.failure.hint

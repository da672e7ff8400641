"""Token ids and positions beyond a model's embeddings: reported before the first step, or of no consequence."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
ONE_RANK = "127.0.0.1 slots=1\n"
ADDED = "log4shell"


@pytest.fixture
def model_without_room(model_folder: Path, tmp_path: Path) -> Path:
    """A model whose tokenizer got two tokens that it was not resized for, one of them to pad with."""
    from transformers import AutoTokenizer

    folder = Path(shutil.copytree(model_folder, tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.add_tokens([ADDED])
    tokenizer.save_pretrained(folder)
    return folder


def job_of(make_job: Any, model: Path, **data: Any) -> Any:
    job = make_job(method="sft", hosts=ONE_RANK)
    job.config["model"]["uri"] = model.as_uri()
    job.config["data"] |= data
    job.config["training"]["maxSteps"] = 2
    return job


def test_a_token_without_an_embedding_is_named_with_the_remedy(
    make_job: Any, model_without_room: Path, tmp_path: Path
) -> None:
    records = tmp_path / "added.jsonl"
    records.write_text("".join(json.dumps({"text": f"{number} {ADDED}"}) + "\n" for number in range(8)))
    ended = job_of(make_job, model_without_room, train={"uris": [records.as_uri()]}).run()
    assert ended.exit_codes == [64]
    assert f"({ADDED!r}), and the model has embeddings for" in ended.failures[0].message
    assert "model.resizeEmbeddings: true" in ended.failures[0].hint


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_grow_to_the_tokenizer_by_the_mean_of_the_others(model_folder: Path, tied: bool) -> None:
    import torch
    from transformers import AutoConfig, LlamaForCausalLM

    from zerotune_trainer.model import grow_embeddings

    config = AutoConfig.from_pretrained(model_folder, tie_word_embeddings=tied)
    grown = []
    for _ in range(2):
        torch.manual_seed(1)
        model = LlamaForCausalLM(copy.deepcopy(config))
        before = model.get_input_embeddings().weight.detach().clone()
        torch.rand(len(grown))  # Another state of the generator, as of another rank.
        grow_embeddings(model, len(before) + 3, seed=7)
        grow_embeddings(model, 8, seed=7)
        grown.append(model)
    first, again = (model.state_dict() for model in grown)
    assert all(torch.equal(first[name], again[name]) for name in first)
    embeddings, head = grown[0].get_input_embeddings().weight, grown[0].get_output_embeddings().weight
    assert len(embeddings) == len(head) == grown[0].config.vocab_size == len(before) + 3
    assert torch.equal(embeddings[:-3], before) and (embeddings is head) == tied
    assert torch.allclose(embeddings[-3:].mean(0), before.mean(0), atol=0.05)


def test_a_model_with_new_tokens_is_trained_and_saved_at_its_new_size(
    make_job: Any, model_without_room: Path, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    records = tmp_path / "added.jsonl"
    records.write_text("".join(json.dumps({"text": f"{number} {ADDED}"}) + "\n" for number in range(8)))
    job = make_job(method="sft", hosts="127.0.0.1 slots=2\n", stage=3)
    job.config["model"] |= {"uri": model_without_room.as_uri(), "resizeEmbeddings": True}
    job.config["data"]["train"]["uris"] = [records.as_uri()]
    job.config["training"]["maxSteps"] = 2
    assert job.run().exit_codes == [0, 0]
    saved = AutoModelForCausalLM.from_pretrained(job.output)
    tokens = len(AutoTokenizer.from_pretrained(job.output))
    assert saved.config.vocab_size == tokens == saved.get_input_embeddings().num_embeddings
    assert saved.get_output_embeddings().out_features == tokens


def test_a_pad_token_without_an_embedding_pads_with_another(make_job: Any, model_without_room: Path) -> None:
    job = job_of(make_job, model_without_room)
    assert job.run().exit_codes == [0]


@pytest.mark.parametrize(("multiple", "code"), [(16, 0), (48, 64)])
def test_padding_beyond_a_table_of_positions_is_rejected(
    make_job: Any, model_folder: Path, tmp_path: Path, multiple: int, code: int
) -> None:
    from transformers import AutoTokenizer, OPTConfig, OPTForCausalLM

    folder = tmp_path / "opt"
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    sizes = {"hidden_size": 32, "ffn_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = OPTConfig(vocab_size=len(tokenizer), max_position_embeddings=64, word_embed_proj_dim=32, **sizes)
    OPTForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    ended = job_of(make_job, folder, maxLength=64, overflow="truncate", padToMultipleOf=multiple).run()
    assert ended.exit_codes == [code]
    if code:
        assert "sequences of 96 tokens, padding included, exceed the 64 positions" in ended.failures[0].message
        assert "data.padToMultipleOf" in ended.failures[0].hint

"""A model that was published with `tokenizer.model` alone, as sentencepiece wrote it."""

from __future__ import annotations

import io
import json
from pathlib import Path

import sentencepiece

from zerotune_trainer.config.sources import Model
from zerotune_trainer.data.tokenizer import load_tokenizer


def test_a_folder_with_tokenizer_model_alone_has_a_fast_tokenizer(
    weaknesses: list[dict[str, str]], tmp_path: Path
) -> None:
    written = io.BytesIO()
    texts = (row["text"] for row in weaknesses)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=texts, model_writer=written, vocab_size=600, model_type="bpe", minloglevel=2
    )
    (tmp_path / "tokenizer.model").write_bytes(written.getvalue())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", **special}))

    tokenizer = load_tokenizer(Model(), tmp_path)

    assert tokenizer.is_fast
    text = weaknesses[0]["name"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    own = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    assert (ids, tokenizer.decode(ids)) == (own.encode(text), text)

"""A tokenizer of words: a text of so many words has so many tokens; and a tiny model that knows them."""

from __future__ import annotations

from pathlib import Path

BOS, EOS, FIRST_WORD = 0, 1, 3


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """Write a tokenizer of the words w3, w4, ... into a model's folder. It adds nothing to a text.

    Args:
        folder: The model's.
        vocabulary: Tokens there are: the three special ones and the words.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    words = {"<s>": BOS, "</s>": EOS, "<unk>": 2} | {f"w{number}": number for number in range(FIRST_WORD, vocabulary)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token=special["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)  # type: ignore[no-untyped-call]
    fast.save_pretrained(folder)


def write_model(folder: Path, vocabulary: int = 400, context: int = 256) -> None:
    """Write a tiny Llama with that tokenizer. Its weights are random and large, so that greedy texts are long and all
    different.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    write_tokenizer(folder, vocabulary)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        initializer_range=0.4,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    LlamaForCausalLM(config).save_pretrained(folder)

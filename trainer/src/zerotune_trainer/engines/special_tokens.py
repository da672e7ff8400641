"""The tokens that end a generation, and the one that fills a batch up."""

from __future__ import annotations

from transformers import GenerationConfig, PretrainedConfig, PreTrainedTokenizerBase

from zerotune_trainer.config.generation import Generation, check_end_tokens


def end_tokens(own: GenerationConfig | None, config: PretrainedConfig, generation: Generation) -> list[int]:
    """What ends a generation: the model's end tokens and the job's.

    Args:
        own: The model's `generation_config.json`.
        config: The model's `config.json`, which counts where that names none.
        generation: What the job asks for.

    Raises:
        ConfigurationError: the job names one that the model does not have.
    """
    check_end_tokens(generation, config.get_text_config().vocab_size)
    named = own.eos_token_id if own is not None else None
    found = named if named is not None else config.get_text_config().eos_token_id
    return list(dict.fromkeys([*([found] if isinstance(found, int) else found or []), *generation.eos_token_ids]))


def pad_token(tokenizer: PreTrainedTokenizerBase, ends: list[int], vocabulary: int) -> int:
    """The tokenizer's pad token, else an end token: padding is masked, any token that the model knows will do."""
    candidates = [tokenizer.pad_token_id, *ends, 0]
    return next(token for token in candidates if isinstance(token, int) and token < vocabulary)

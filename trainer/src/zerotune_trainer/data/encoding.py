"""Text to token ids, with the special tokens that belong there once each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from zerotune_trainer.errors import ConfigurationError

Offsets = list[tuple[int, int]]
"""For each token the characters it stands for."""


@dataclass(frozen=True)
class Encoder:
    """A tokenizer, asked in the three ways that training text is made of."""

    tokenizer: PreTrainedTokenizerBase

    @property
    def eos(self) -> int:
        """The token that ends a document.

        Raises:
            ConfigurationError: the tokenizer has none.
        """
        token = self.tokenizer.eos_token_id
        if not isinstance(token, int):
            raise ConfigurationError(
                "the model's tokenizer has no EOS token, so a model could not learn to stop",
                "set eos_token in the model's tokenizer_config.json",
            )
        return token

    def document(self, text: str) -> list[int]:
        """A whole document: BOS where the tokenizer writes one, the text, one EOS."""
        return self.closed(self._ids(text, special=True))

    def opening(self, text: str) -> list[int]:
        """A prompt: as a document, without the EOS."""
        ids = self._ids(text, special=True)
        return ids[:-1] if ids[-1:] == [self.eos] and not text.endswith(str(self.tokenizer.eos_token)) else ids

    def continuation(self, text: str) -> list[int]:
        """Text that goes on after other tokens."""
        return self._ids(text, special=False)

    def batch(self, texts: Sequence[str], *, special: bool, offsets: bool) -> list[tuple[list[int], Offsets]]:
        """Many texts at once, the special tokens added or not. Offsets are empty unless asked for.

        Raises:
            ConfigurationError: offsets are asked for and the tokenizer does not give them.
        """
        if offsets and not self.tokenizer.is_fast:
            raise ConfigurationError(
                f"{type(self.tokenizer).__name__} does not give which characters a token stands for",
                "use a fast tokenizer (tokenizer.json), or data.loss: all",
            )
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=special,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=offsets,
            verbose=False,
        )
        places = encoded["offset_mapping"] if offsets else [[] for _ in texts]
        return [self._with_one_bos(ids, place) for ids, place in zip(encoded["input_ids"], places, strict=True)]

    def closed(self, ids: list[int]) -> list[int]:
        """Token ids that end with one EOS."""
        while ids[-2:] == [self.eos, self.eos]:
            ids = ids[:-1]
        return ids if ids[-1:] == [self.eos] else [*ids, self.eos]

    def _ids(self, text: str, *, special: bool) -> list[int]:
        return self.batch([text], special=special, offsets=False)[0][0]

    def _with_one_bos(self, ids: list[int], offsets: Offsets) -> tuple[list[int], Offsets]:
        # A text may begin with the BOS that the tokenizer, or the template, writes too.
        bos = self.tokenizer.bos_token_id
        twice = bos is not None and ids[:2] == [bos, bos]
        return (ids[1:], offsets[1:]) if twice else (ids, offsets)

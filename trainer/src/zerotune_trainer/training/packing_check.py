"""Whether a model keeps the documents of a packed block apart.

transformers distinguishes documents by `position_ids`. A model that ignores them, such as one with ALiBi or with a
recurrent state, lets a document see the one before it, without any error.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from zerotune_trainer.causality import TOLERANCES, logits_of
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.training.batches import Collator

_LENGTHS = (11, 9)
"""Tokens of the two documents."""

# Seen in 27 families that keep documents apart: relative differences of at most 4e-7 in fp32 and 4e-3 in bf16; in 22
# that do not, at least 4e-4 in fp32.


def check_packing(model: PreTrainedModel, collator: Collator) -> None:
    """See that a document has the logits behind another one that it has alone, up to rounding.

    Args:
        model: On its device.
        collator: Makes the batches that it is to train on.

    Raises:
        ConfigurationError: it has others.
    """
    random = torch.Generator().manual_seed(0)
    vocab_size = cast(nn.Embedding, model.get_input_embeddings()).num_embeddings
    first, second = (torch.randint(vocab_size, (length,), generator=random).numpy() for length in _LENGTHS)
    packed = logits_of(model, collator([_row([first, second])])).flatten(0, 1)[len(first) :][: len(second)]
    alone = logits_of(model, collator([_row([second])])).flatten(0, 1)[: len(second)]
    difference = float((packed - alone).norm() / alone.norm())
    if not difference <= TOLERANCES[model.dtype]:
        raise ConfigurationError(
            f"data.packing: bfd_split mixes documents in a model of type {model.config.model_type}, which ignores "
            f"position_ids: the logits of a document behind another one differ by {difference:.1e} of their norm from "
            "those that it has alone",
            "set data.packing: none, or wrapped, which joins documents on purpose",
        )


def _row(documents: Sequence[Any]) -> dict[str, Any]:
    ids = [token for document in documents for token in document]
    return {"input_ids": ids, "labels": ids, "seq_lengths": [len(document) for document in documents]}

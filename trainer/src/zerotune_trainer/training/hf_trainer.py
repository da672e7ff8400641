"""transformers' Trainer, imported without `datasets` and the pandas that comes with it: a second of every start.

All that Trainer wants of it is to know whether rows are a `datasets.Dataset`, to drop columns of it; ours never are.
"""

from __future__ import annotations

import transformers.utils as utils

_is_available = utils.is_datasets_available  # type: ignore[attr-defined]
utils.is_datasets_available = lambda: False  # type: ignore[attr-defined]
try:
    from transformers.trainer import Trainer
finally:
    utils.is_datasets_available = _is_available  # type: ignore[attr-defined]

__all__ = ["Trainer"]

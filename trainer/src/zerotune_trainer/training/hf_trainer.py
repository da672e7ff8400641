"""transformers' Trainer without `datasets` and the pandas that comes with it, which every start would wait for.

All that Trainer and accelerate want of it is to know whether rows are a `datasets` class, to drop columns of it or to
share it out; ours never are.
"""

from __future__ import annotations

import accelerate.data_loader
import transformers.utils as utils

accelerate.data_loader.is_datasets_available = lambda: False  # asked while it prepares

_is_available = utils.is_datasets_available  # type: ignore[attr-defined]
utils.is_datasets_available = lambda: False  # type: ignore[attr-defined]  # asked by the import
try:
    from transformers.trainer import Trainer
finally:
    utils.is_datasets_available = _is_available  # type: ignore[attr-defined]

__all__ = ["Trainer"]

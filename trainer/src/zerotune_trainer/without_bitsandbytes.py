"""peft, imported without bitsandbytes, which only qlora asks for.

As bitsandbytes is imported it asks CUDA what the GPUs can do, after which no rank that is forked can use them, and
imports torch's compiler: a fifth of the CPU time of a start. `peft.helpers` imports it where it is installed; peft's
adapters ask once more, and import it, when one is attached. Imported before transformers, whose Trainer imports peft.
"""

from __future__ import annotations

from zerotune_trainer.lean_import import import_without

peft = import_without("bitsandbytes", "peft")
for _is_available in (peft.import_utils.is_bnb_available, peft.import_utils.is_bnb_4bit_available):
    _is_available.cache_clear()  # Each remembers its answer.

"""How a config scales rotary positions, as far as transformers would ignore it without a word. Torch-free."""

from __future__ import annotations

from typing import Any

from zerotune_trainer.sizing.sizes import wrong

_FIELDS = ("rope_scaling", "rope_parameters")
_TYPES = ("rope_type", "type")


def check_rope(config: dict[str, Any], where: str) -> None:
    """See that scaling says of which type it is: without one transformers takes positions as they are.

    Raises:
        ConfigurationError: it does not, or it is no object.
    """
    for field in _FIELDS:
        scaling = config.get(field) or {}
        if not isinstance(scaling, dict):
            raise wrong(where, f"{field} is {scaling!r:.80}, which is not an object")
        for part in (scaling, *(inner for inner in scaling.values() if isinstance(inner, dict))):
            if part.get("factor") not in (None, 1) and not any(part.get(name) for name in _TYPES):
                raise wrong(where, f"{field} has the factor {part['factor']!r:.20} and no rope_type")

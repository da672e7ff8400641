"""Weights in a model's files that the model which config.json describes has no place for.

transformers leaves them out, prints a table, and goes on with another model than the files hold; under ZeRO-3 it does
not even find them. Weights outside of the decoder layers (a value head, a vision tower) are no part of a language model
and may be left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from transformers import PreTrainedModel

_LAYER = re.compile(r"^(?P<layers>(?:.+\.)?(?:layers|h|blocks)\.)(?P<number>\d+)\.")
"""The name of a layer's weight: the list of layers, and which one it is."""
_COMPUTED = re.compile(r"\b(attn|attention|self_attention)\.(masked_)?bias$|inv_freq$")
"""Masks and frequencies: older versions of transformers saved them, newer ones compute them."""


def left_out(names: Iterable[str], empty: PreTrainedModel) -> list[str]:
    """Which of the weights the model has no place for, though they are of its decoder layers.

    Those that predict further tokens (multi-token prediction) are no part of the model.

    Args:
        names: Of the weights in the files.
        empty: The model, without memory for its weights.
    """
    ignored = [re.compile(pattern) for pattern in empty._keys_to_ignore_on_load_unexpected or ()]
    is_further, is_unknown = _further_layers(empty), _unknown_parameters(empty)
    of_layers = [name for name in names if _LAYER.match(name) and not any(rule.search(name) for rule in ignored)]
    return [name for name in of_layers if is_further(name) or is_unknown(name)]


def _further_layers(empty: PreTrainedModel) -> Callable[[str], bool]:
    """Whether a weight is of a layer beyond the model's last."""
    last: dict[str, int] = {}
    for found in filter(None, map(_LAYER.match, empty.state_dict())):
        last[found["layers"]] = max(last.get(found["layers"], 0), int(found["number"]))
    spare = getattr(empty.config.get_text_config(), "num_nextn_predict_layers", None) or 0

    def is_further(name: str) -> bool:
        found = _LAYER.match(name)
        assert found is not None
        layers = found["layers"] if found["layers"] in last else f"{empty.base_model_prefix}.{found['layers']}"
        return layers in last and int(found["number"]) > last[layers] + spare

    return is_further


def _unknown_parameters(empty: PreTrainedModel) -> Callable[[str], bool]:
    """Whether a weight is of a module that the model has without it, such as a bias. Weights that are converted as they
    are loaded (experts in one tensor) are of modules that the model does not have.
    """
    modules = {name for name, module in empty.named_modules() if not list(module.children())}
    known = {name for name, _ in (*empty.named_parameters(remove_duplicate=False), *empty.named_buffers())}
    is_quantized = getattr(empty.config, "quantization_config", None) is not None  # Then scales lie beside the weights.

    def is_unknown(name: str) -> bool:
        names = (name, f"{empty.base_model_prefix}.{name}")
        module = any(each.rpartition(".")[0] in modules for each in names)
        return module and not is_quantized and known.isdisjoint(names) and not _COMPUTED.search(name)

    return is_unknown

"""Names of the modules of architectures that are counted exactly, as in transformers 5. Torch-free and pure.

Mixtures of experts are left out: peft takes the names that their experts had in transformers 4 as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from zerotune_trainer.config.adapter import ALL_LINEAR, Adapter
from zerotune_trainer.config.model_shape import ModelShape

_ANY = "*"
"""In a path, the number of a layer."""


@dataclass(frozen=True)
class Modules:
    """Where the weights of an architecture are."""

    layers: str
    """Path of the decoder layers."""
    linear: tuple[str, ...]
    """Linear layers of a decoder layer, by their path in it."""
    outside: tuple[str, ...]
    """Embeddings, head and projections around the layers."""
    norms: tuple[str, ...]
    """Norms of a decoder layer, also those that only some of the architectures named together have."""
    last_norms: tuple[str, ...]
    """Norms around the layers."""

    def adaptable(self) -> Iterator[str]:
        """Paths of what a low-rank adapter can lie on."""
        yield from (f"{self.layers}.{_ANY}.{name}" for name in self.linear)
        yield from self.outside

    def paths(self) -> set[str]:
        """All paths: those of weights, and of the modules that hold them."""
        weights = {*self.adaptable(), *(f"{self.layers}.{_ANY}.{name}" for name in self.norms)}
        weights.update(self.last_norms)
        parts = (path.split(".") for path in weights)
        return {".".join(names[:length]) for names in parts for length in range(1, len(names) + 1)}


_ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
_FUSED = ("self_attention.query_key_value", "self_attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
_LLAMA = Modules(
    "model.layers",
    (*_ATTENTION, "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    ("model.embed_tokens", "lm_head"),
    (
        *("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"),
        *("self_attn.q_norm", "self_attn.k_norm", "self_attn.q_layernorm", "self_attn.k_layernorm"),
    ),
    ("model.norm",),
)
_GPT2 = Modules(
    "transformer.h",
    ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"),
    ("transformer.wte", "transformer.wpe", "lm_head"),
    ("ln_1", "ln_2"),
    ("transformer.ln_f",),
)
_BLOOM = Modules(
    "transformer.h",
    _FUSED,
    ("transformer.word_embeddings", "lm_head"),
    ("input_layernorm", "post_attention_layernorm", "ln_attn", "ln_mlp"),
    ("transformer.ln_f", "transformer.word_embeddings_layernorm"),
)
_LIKE_LLAMA = ("llama", "mistral", "granite", "smollm3", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo")

MODULES: dict[str, Modules] = {
    **dict.fromkeys((*_LIKE_LLAMA, "olmo2", "stablelm"), _LLAMA),
    "phi3": replace(_LLAMA, linear=("self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj")),
    "starcoder2": replace(_LLAMA, linear=(*_ATTENTION, "self_attn.o_proj", "mlp.c_fc", "mlp.c_proj")),
    "phi": replace(
        _LLAMA, linear=(*_ATTENTION, "self_attn.dense", "mlp.fc1", "mlp.fc2"), last_norms=("model.final_layernorm",)
    ),
    "opt": Modules(
        "model.decoder.layers",
        (*_ATTENTION, "self_attn.out_proj", "fc1", "fc2"),
        (
            *("model.decoder.embed_tokens", "model.decoder.embed_positions", "lm_head"),
            *("model.decoder.project_in", "model.decoder.project_out"),
        ),
        ("self_attn_layer_norm", "final_layer_norm"),
        ("model.decoder.final_layer_norm",),
    ),
    "gpt2": _GPT2,
    "gpt_bigcode": _GPT2,
    "gptj": replace(
        _GPT2,
        linear=("attn.q_proj", "attn.k_proj", "attn.v_proj", "attn.out_proj", "mlp.fc_in", "mlp.fc_out"),
        outside=("transformer.wte", "lm_head"),
    ),
    "gpt_neox": Modules(
        "gpt_neox.layers",
        ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
        ("gpt_neox.embed_in", "lm_head"),
        ("input_layernorm", "post_attention_layernorm"),
        ("gpt_neox.final_layer_norm",),
    ),
    "bloom": _BLOOM,
    "falcon": _BLOOM,
}
"""By `model_type`."""


def unknown_targets(shape: ModelShape, adapter: Adapter) -> list[str]:
    """The names of `targetModules` that no layer of the model has; none where its modules are not known."""
    modules = MODULES.get(shape.architecture)
    if modules is None or adapter.target_modules == [ALL_LINEAR]:
        return []
    paths = tuple(f".{path}" for path in modules.adaptable())
    return [name for name in adapter.target_modules if not _is_end(f".{_pattern(name, shape)}", paths)]


def unknown_modules(shape: ModelShape, adapter: Adapter) -> list[str]:
    """The names of `modulesToSave` in which no module of the model ends; none where its modules are not known."""
    modules = MODULES.get(shape.architecture)
    if modules is None:
        return []
    paths = tuple(modules.paths())
    return [name for name in adapter.modules_to_save if not _is_end(_pattern(name, shape), paths)]


def tied_targets(shape: ModelShape, adapter: Adapter) -> list[str]:
    """The names of `targetModules` that stand for embeddings which are the head, too; none where modules are not
    known.
    """
    modules = MODULES.get(shape.architecture)
    if modules is None or not shape.tied or adapter.target_modules == [ALL_LINEAR]:
        return []
    ends = tuple(f".{path}" for path in (modules.outside[0], "lm_head"))
    return [name for name in adapter.target_modules if _is_end(f".{name}", ends)]


def saved_and_adapted(shape: ModelShape, adapter: Adapter) -> list[str]:
    """The names of `modulesToSave` that stand for layers which get an adapter; none where its modules are not known."""
    modules = MODULES.get(shape.architecture)
    if modules is None:
        return []
    if adapter.target_modules == [ALL_LINEAR]:
        adapted = [f".{modules.layers}.{_ANY}.{name}" for name in modules.linear]
    else:
        targets = tuple(f".{_pattern(name, shape)}" for name in adapter.target_modules)
        adapted = [path for path in (f".{path}" for path in modules.adaptable()) if path.endswith(targets)]
    return [name for name in adapter.modules_to_save if _is_end(_pattern(name, shape), tuple(adapted))]


def last_names(shape: ModelShape, *, whole: bool = False) -> list[str]:
    """The last names of a decoder layer's linear layers: `q_proj`. Embeddings and head are none; they may be tied.

    Args:
        shape: Of a model whose modules are known.
        whole: Those of embeddings, head and norms as well, which may be trained whole.
    """
    modules = MODULES[shape.architecture]
    paths = (*modules.linear, *modules.outside, *modules.norms, *modules.last_norms) if whole else modules.linear
    return list(dict.fromkeys(path.rpartition(".")[2] for path in paths))


def _is_end(name: str, paths: tuple[str, ...]) -> bool:
    return any(path.endswith(name) for path in paths)


def _pattern(name: str, shape: ModelShape) -> str:
    """A name with what stands for any layer in place of the number of one that the model has."""
    parts = ("" if part == _ANY else part for part in name.split("."))
    return ".".join(_ANY if part.isdecimal() and int(part) < shape.layers else part for part in parts)

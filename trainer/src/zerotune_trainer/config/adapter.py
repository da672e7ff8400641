"""`spec.adapter`: a low-rank adapter that is trained instead of the model's own parameters."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints

from zerotune_trainer.config.base import Number, Rule, Settings
from zerotune_trainer.errors import ConfigurationError

ALL_LINEAR = "all-linear"

Quantization = Literal["nf4", "fp4", "int8"]
"""Number formats of bitsandbytes: 4 bits a weight in blocks of 64, or 8 bits a weight by rows."""

WHOLE_BASE = "a quantized base is whole on each rank: bitsandbytes quantizes whole weights as they are loaded"
"""Why ZeRO stage 3 is not for qlora."""

ModuleName = Annotated[str, StringConstraints(min_length=1, max_length=253)]
"""Name of a module of the model, or the end of one: `q_proj`."""


class Adapter(Settings):
    """Train a low-rank adapter instead of all parameters, as peft's LoraConfig describes it."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.quantization) || self.type == 'qlora'",
            "quantization is for type: qlora; lora keeps the base as it is: set type: qlora, or leave quantization out",
            "quantization",
        ),
        Rule(
            f"size(self.targetModules) == 1 || !('{ALL_LINEAR}' in self.targetModules)",
            f"{ALL_LINEAR} stands for all linear layers but the head: name it alone, or name the modules without it",
            "targetModules",
        ),
    )

    type: Literal["lora", "qlora"]
    """`lora`, or `qlora`: the same over a base that is quantized while it is trained, at ZeRO stages 0, 1 and 2."""
    quantization: Quantization | None = None
    """Number format of a qlora base, which bitsandbytes quantizes as it is loaded: every linear layer but the head.
    `nf4`, `fp4`: about half a byte a weight; `int8`: one byte. Default: nf4."""
    r: int = Field(default=16, ge=1)
    """Rank of the adapter."""
    alpha: int = Field(default=32, ge=1)
    """Scale of the adapter: alpha / r, with `useRslora` alpha / sqrt(r)."""
    dropout: Number = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: list[ModuleName] = Field(default=[ALL_LINEAR], min_length=1, max_length=256)
    """Modules that get an adapter, by name; `all-linear`: every linear layer but the head."""
    modules_to_save: list[ModuleName] = Field(default=[], max_length=256)
    """Further modules that are trained whole and saved with the adapter, such as `embed_tokens` and `lm_head`."""
    use_dora: bool = False
    """Train the magnitude of each weight apart from its direction (DoRA, arXiv 2402.09353): slower, often better at a
    low rank."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(r) (rank-stabilized LoRA, arXiv 2312.03732), which suits a high rank."""
    merge: bool = False
    """The output is the whole model with the adapter merged into it, into its weights as they were before they were
    quantized; the adapter is saved in its folder `adapter`."""

    @property
    def base_quantization(self) -> Quantization | None:
        """Number format of the base while it is trained; None where it stays as it is."""
        return (self.quantization or "nf4") if self.type == "qlora" else None


class StoredAdapter(Settings):
    """An adapter that a folder holds, by what training that goes on with it cannot change."""

    model_config = Settings.model_config | {"frozen": True}

    r: int = Field(ge=1)
    """Its rank."""
    alpha: int = Field(ge=1)
    """Its scale."""
    target_modules: list[str] | None = Field(default=None, max_length=256)
    """The modules that it lies on; None where it lists none, or very many."""
    modules_to_save: list[str] = Field(default=[], max_length=256)
    """The modules that were trained whole."""
    use_dora: bool = False
    """Whether it is a DoRA adapter."""
    use_rslora: bool = False
    """Whether its scale is rank-stabilized."""


def stored_from(adapter: Adapter) -> StoredAdapter:
    """What the folder will say of an adapter that a job trains; which layers all linear ones are is not known yet."""
    given = adapter.model_dump(include=set(StoredAdapter.model_fields))
    return StoredAdapter.model_validate(
        given | ({"target_modules": None} if adapter.target_modules == [ALL_LINEAR] else {})
    )


def require_same(stored: StoredAdapter, asked: Adapter, where: str) -> None:
    """See that the adapter of a folder is as a job asks for: training goes on with it as it is.

    Args:
        stored: The adapter of the folder.
        asked: What the job asks for.
        where: What names the folder.

    Raises:
        ConfigurationError: it is not.
    """
    before, wanted = _by_name(stored), _by_name(asked)
    if stored.target_modules is None or wanted["targetModules"] == [ALL_LINEAR]:  # The folder lists what these are.
        wanted["targetModules"] = before["targetModules"]
    differing = [
        f"{name} is {before[name]}, the job asks for {wanted[name]}" for name in before if before[name] != wanted[name]
    ]
    if differing:
        raise ConfigurationError(
            f"{where} holds an adapter that training goes on with, and it is another one: {'; '.join(differing)}",
            "give spec.adapter as it was for the job that made it, or leave spec.adapter out: the adapter is merged, "
            "and all parameters are trained",
        )


def _by_name(adapter: Adapter | StoredAdapter) -> dict[str, Any]:
    given = adapter.model_dump(by_alias=True, include=set(StoredAdapter.model_fields))
    return {name: sorted(value) if isinstance(value, list) else value for name, value in given.items()}


def no_layers(architecture: str) -> ConfigurationError:
    """The error that a qlora base has no layer that can be quantized.

    Args:
        architecture: `model_type` of the base.
    """
    return ConfigurationError(
        f"bitsandbytes quantizes no layer of a model of type {architecture}", "use adapter.type: lora"
    )


def changes_tied(where: str) -> ConfigurationError:
    """The error that an adapter lies on embeddings which are the head, too: merged into the one, it changes the other.

    Args:
        where: What says so: the beginning of a sentence.
    """
    return ConfigurationError(
        f"{where}, and the embeddings of this model are its head, too (tie_word_embeddings)",
        "leave embeddings and head out of adapter.targetModules, and name them in adapter.modulesToSave instead",
    )

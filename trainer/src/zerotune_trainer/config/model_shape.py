"""What a plan knows of a model: the sizes that the memory it takes depends on. `sizing.shape` reads them."""

from __future__ import annotations

from zerotune_trainer.config.adapter import StoredAdapter
from zerotune_trainer.config.base import ModelUri, Settings


class ModelShape(Settings):
    """What the memory a model takes depends on."""

    model_config = Settings.model_config | {"frozen": True}

    architecture: str
    """`model_type` of the config."""
    parameters: int
    """Parameters in all; tied embeddings count once."""
    largest_layer: int
    """Parameters of the largest unit that ZeRO-3 gathers at once: a decoder layer, or the embedding."""
    layers: int
    """Decoder layers."""
    hidden_size: int
    """Width of a token between layers."""
    kv_size: int
    """Width of a token's keys (and of its values) in one layer."""
    heads: int
    """Attention heads of a layer."""
    vocab_size: int
    """Tokens there are: rows of the embedding."""
    query_size: int | None = None
    """Width of a token's queries in one layer. Default: `hidden_size`."""
    mlp_size: int | None = None
    """Width of the MLP that a token goes through, in a mixture of experts that of all its experts together. Default:
    four times `hidden_size`."""
    experts_per_token: int = 0
    """Experts that a token goes through in a layer; 0 where there are none."""
    context: int | None = None
    """Longest sequence in tokens the model was made for."""
    tied: bool = False
    """Whether the embeddings are the head, too (`tie_word_embeddings`)."""
    learned_positions: bool = False
    """Whether positions are a table of `context` rows, so that a longer sequence cannot be computed at all."""
    stored_dtype: str | None = None
    """Number format that the weights are stored in, where the config names it: `bfloat16`."""
    exact: bool = True
    """False where the architecture is unknown and Llama's arithmetic was used."""
    quantization: str | None = None
    """How the stored weights are quantized: `quant_method` of the config. None: they are not."""
    base_uri: ModelUri | None = None
    """Where the model's folder holds an adapter, the model that it is for, as `adapter_config.json` names it: then this
    is the shape of that model. None: the folder holds a whole model."""
    adapter: StoredAdapter | None = None
    """The adapter that the folder holds, where it holds one."""
    checkpoint_base: ModelUri | None = None
    """Where the folder is a training checkpoint, the model that the training began with."""

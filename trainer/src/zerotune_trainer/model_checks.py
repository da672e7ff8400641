"""What is checked of a model before its weights are loaded: config, shapes of the weights, room for tokens.

Every rank does, before they join: under ZeRO-3 only rank 0 reads weights, and what it trips over would leave the others
waiting.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.config.sources import Model
from zerotune_trainer.data.replay import SplitRows
from zerotune_trainer.errors import ConfigurationError, InputMissingError, ModelChangedError
from zerotune_trainer.input_errors import input_errors, recognize
from zerotune_trainer.left_out import left_out
from zerotune_trainer.sizing.model_config import shape_of_file
from zerotune_trainer.sizing.model_folder import require_weights
from zerotune_trainer.sizing.quantization import check_generates, check_trainable

MEND = "give a complete Hugging Face folder: config.json and the weights that belong to it"
_CONFIG_HINT = (
    "give the config.json that was published with the model; where it asks for code of its own, set "
    "model.trustRemoteCode, if you trust it"
)
_INDEX_NAME = "model.safetensors.index.json"


def check_config(config: TrainConfig | InferConfig, folder: Path) -> None:
    """See that the job can use the model, and that it is the one that the plan was made for: memory and DeepSpeed's
    settings are sized by it.

    Raises:
        InputMissingError: there is no config.json.
        ConfigurationError: it is not one of a language model, or the weights are quantized.
        ModelChangedError: it is another one by now.
    """
    path = folder / "config.json"
    found = shape_of_file(path)
    check = check_trainable if isinstance(config, TrainConfig) else check_generates
    check(found.quantization, str(path))
    planned = config.model_shape
    if planned is None or found == planned.model_copy(update={"base_uri": None, "adapter": None}):
        return
    before, now = (shape.model_dump(by_alias=True, exclude={"base_uri", "adapter"}) for shape in (planned, found))
    changed = [f"{name} {now[name]} instead of {before[name]}" for name in now if now[name] != before[name]]
    raise ModelChangedError(
        f"{folder} is another model than the one that the job was planned for: {', '.join(changed)}",
        "the next attempt is planned for the model as it is",
    )


def empty_model(model: Model, folder: Path) -> PreTrainedModel:
    """The model that a folder's config.json describes, without memory for its weights.

    Raises:
        ConfigurationError: it describes no causal language model that transformers can build.
    """
    with input_errors(ConfigurationError, f"{folder / 'config.json'} describes no causal language model", _CONFIG_HINT):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=model.trust_remote_code)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, trust_remote_code=model.trust_remote_code
            )
    return cast(PreTrainedModel, empty)


def check_weights(empty: PreTrainedModel, folder: Path, name: str = "") -> None:
    """Compare the shapes in the weight files with those that config.json asks for.

    Args:
        empty: The model, see `empty_model`.
        folder: Holds the files.
        name: How messages name it, whose user knows no copy of it in a cache; default: by its path.

    Raises:
        InputMissingError: the folder holds no weights.
        ConfigurationError: a file cannot be read, a weight has another shape, or no place in the model.
    """
    where = name or str(folder)
    require_weights(folder, where)
    expected = {name: tuple(value.shape) for name, value in empty.state_dict().items()}
    stored = {name: shape for path in weight_files(folder, where) for name, shape in _stored_shapes(path).items()}
    wrong = [
        f"{name} is {_shape(shape)}, config.json asks for {_shape(expected[name])}"
        for name, shape in stored.items()
        if name in expected and shape != expected[name]
    ]
    if wrong:
        raise ConfigurationError(f"{where}: {some(wrong)}", MEND)
    if names := left_out(stored, empty):
        raise ConfigurationError(
            f"{where} holds weights that its config.json has no place for, which would be left out: {some(names)}",
            MEND,
        )


def check_tokens(empty: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, splits: Iterable[SplitRows]) -> None:
    """See that the model has an embedding for every token of the rows.

    Raises:
        ConfigurationError: the tokenizer has tokens that were added without resizing the model, and rows use them.
    """
    embeddings = embedding_count(empty)
    tokens = token_count(tokenizer)
    # Many a tokenizer has more tokens than the model, and no text uses them: only then the rows must be read.
    if tokens <= embeddings:
        return
    largest = max(rows.largest_id() for rows in splits)
    if largest >= embeddings:
        text = tokenizer.convert_ids_to_tokens(largest)
        raise ConfigurationError(
            f"the data holds token {largest} ({text!r}), and the model has embeddings for {embeddings} tokens "
            f"(0 to {embeddings - 1}); its tokenizer has {tokens}",
            "set model.resizeEmbeddings: true, and the model learns them; or use the tokenizer that belongs to it",
        )


def check_positions(empty: PreTrainedModel, length: int) -> None:
    """See that a model whose positions are a table has one for every token of a sequence.

    Args:
        empty: The model.
        length: Tokens of the longest sequence, padding included.

    Raises:
        ConfigurationError: the sequence is longer than the table.
    """
    positions = _learned_positions(empty)
    if positions is not None and length > positions:
        raise ConfigurationError(
            f"sequences of {length} tokens, padding included, exceed the {positions} positions that the "
            f"{empty.config.model_type} model has",
            f"set data.maxLength and data.padToMultipleOf so that rows are padded to {positions} tokens or fewer",
        )


def token_count(tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens of a tokenizer, those of ids that are left out between them included."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def embedding_count(model: PreTrainedModel) -> int:
    """Tokens that a model has an embedding for."""
    return cast(nn.Embedding, model.get_input_embeddings()).num_embeddings


def some(items: Iterable[object], limit: int = 5) -> str:
    """The first of the items, and how many there are besides."""
    texts = sorted(str(item) for item in items)
    return ", ".join(texts[:limit]) + (f" and {len(texts) - limit} more" if len(texts) > limit else "")


def _learned_positions(empty: PreTrainedModel) -> int | None:
    """How many positions a model has an embedding for; None where they are computed."""
    for name, module in empty.named_modules():
        last = name.rpartition(".")[2]
        if isinstance(module, nn.Embedding) and ("position" in last or last == "wpe"):
            # Not the rows of the table: some keep the first for padding.
            return getattr(empty.config.get_text_config(), "max_position_embeddings", None)
    return None


def weight_files(folder: Path, where: str) -> list[Path]:
    """The safetensors files that transformers loads: the single file, where it is there, comes before the index.

    Args:
        folder: Holds them.
        where: Names the folder in an error.

    Raises:
        ConfigurationError, InputMissingError: the index cannot be read, or a file that it names is not there.
    """
    index, single = folder / _INDEX_NAME, folder / "model.safetensors"
    if single.is_file() or single.is_symlink() or not index.is_file():
        return sorted(folder.glob("model.safetensors")) or sorted(folder.glob("model*.safetensors"))
    with input_errors(ConfigurationError, f"{index} cannot be read", MEND):
        names: dict[str, str] = json.loads(index.read_bytes())["weight_map"]
        files = [folder / name for name in sorted(set(names.values()))]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputMissingError(f"{where} lacks {some(missing)}, which {index.name} names", MEND)
    return files


def not_finite(folder: Path, dtype: torch.dtype, names: Iterable[str]) -> ConfigurationError:
    """The error that weights of a folder are NaN or infinite in a dtype."""
    return ConfigurationError(
        f"{folder} holds weights that are not finite in {dtype}: {some(names)}",
        "give the model as it was before they became NaN or infinite, or use bf16 or fp32 where fp16 cannot hold them",
    )


def _stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(path, framework="pt") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ConfigurationError(f"{path} is not a whole safetensors file: {error}", _fetch_hint(path)) from error
    except OSError as error:
        # safetensors has the same message, and no errno, for a file that is missing and for one that may not be read.
        raise ConfigurationError(
            f"{path} cannot be read: {error}", "let the user that runs the job read it: safetensors writes mode 0600"
        ) from error


def _fetch_hint(path: Path) -> str:
    with path.open("rb") as file:
        return recognize(file.read(64)) or "fetch or copy it again"


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(str(size) for size in shape)

"""Low-rank adapters (LoRA) over a frozen base model, by peft: attached to train, loaded to go on, merged to run.

The folder of an adapter holds no model: `adapter_config.json` names the base. Training with an adapter goes on with the
one that the folder holds; everything else merges it into the base as the model is loaded.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, load_peft_weights
from peft.tuners.lora import LoraLayer
from torch import nn
from transformers import PreTrainedModel, set_seed

from zerotune_trainer.adapter_modules import differences, linear_names, require_targets, require_whole_modules
from zerotune_trainer.config import InferConfig, TrainConfig
from zerotune_trainer.config.adapter import ALL_LINEAR, Adapter, changes_tied, require_same
from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.input_errors import input_errors
from zerotune_trainer.model_checks import some
from zerotune_trainer.sizing.adapter_config import ADAPTER_CONFIG, Base, read_base, read_stored, recorded_name
from zerotune_trainer.sizing.adapter_weights import changes_of, of_another_base
from zerotune_trainer.storage import local_folder
from zerotune_trainer.without_mlflow import deepspeed
from zerotune_trainer.zero_checkpoint import MEND, whole_model

_log = logging.getLogger(__name__)


class ModelFolders(NamedTuple):
    """Where the model of a job lies on this machine."""

    base: Path
    """Holds config.json and the weights."""
    adapter: Path | None = None
    """Holds an adapter for them, where the job starts from one."""
    base_name: str = ""
    """What the configuration of an adapter calls the base."""
    base_revision: str | None = None

    @property
    def tokenizer(self) -> Path:
        """Holds the tokenizer: the adapter's folder, where it brings one along."""
        brings_one = self.adapter is not None and any(self.adapter.glob("tokenizer*"))
        return self.adapter if brings_one and self.adapter is not None else self.base


def model_folders(config: TrainConfig | InferConfig) -> ModelFolders:
    """Fetch the model of a job, and where it is an adapter also its base; a training checkpoint becomes a model.

    Raises:
        InputMissingError, ConfigurationError, TemporaryError: as `storage.local_folder`; the base cannot be found.
    """
    cache, model = Path(config.launch.cache_dir), config.model
    folder = _checkpoint(config) if model.checkpoint else local_folder(config.model_uri, cache, model.revision)
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        return ModelFolders(folder, None, recorded_name(config.model_source or config.model_uri), model.revision)
    base = read_base(path.read_bytes(), str(path))
    found = Base(config.base_uri or base.uri, base.revision)
    return ModelFolders(local_folder(found.uri, cache, found.revision), folder, recorded_name(base.uri), base.revision)


def _checkpoint(config: TrainConfig | InferConfig) -> Path:
    """The model that a checkpoint of another job holds."""
    cache = Path(config.launch.cache_dir)
    if config.base_uri is None:
        raise ConfigurationError(
            "baseUri is missing from config.json, and the model is a checkpoint", "plan the job anew"
        )
    try:
        folder = local_folder(config.model_uri, cache)
    except InputMissingError as error:
        raise InputMissingError(error.message, MEND) from error
    return whole_model(folder, local_folder(config.base_uri, cache), cache)


def attach(model: PreTrainedModel, adapter: Adapter, folders: ModelFolders, seed: int) -> PeftModel:
    """The model with an adapter to train: a new one, or the one that the job starts from. All else is frozen.

    Args:
        model: The base, with its weights.
        adapter: What is asked for.
        folders: Where base and adapter lie.
        seed: What a new adapter is drawn with, on every rank.

    Raises:
        ConfigurationError: the model has no such modules, or the adapter there is another than the one asked for.
    """
    if folders.adapter is not None:
        path = folders.adapter / ADAPTER_CONFIG
        require_same(read_stored(path.read_bytes(), str(path)), adapter, str(folders.adapter))
        attached = _load(model, folders.adapter, trains=True)
    else:
        set_seed(seed)
        require_whole_modules(model, adapter)
        hint = f"name modules that the model has, such as {', '.join(linear_names(model))}; or {ALL_LINEAR}"
        with input_errors(ConfigurationError, "adapter does not go with the model", hint):
            # In the dtype of training, as all of the model: DeepSpeed keeps fp32 weights of what it updates.
            attached = get_peft_model(model, _lora_config(adapter, folders), autocast_adapter_dtype=False)
        require_targets(attached, adapter)
    _take_dtype_of_training(attached)
    _check_untied(attached)
    trained, total = attached.get_nb_trainable_parameters()
    _log.info("adapter: %s of %s parameters are trained", f"{trained:,}", f"{total:,}")
    return attached


def adapter_warnings(model: PreTrainedModel | PeftModel, adapter: Adapter | None, folders: ModelFolders) -> list[str]:
    """What a person should know of the adapter that training goes on with, where a job goes on with one."""
    if adapter is None or folders.adapter is None or not isinstance(model, PeftModel):
        return []
    return differences(model, adapter, folders.adapter)


def load_frozen(model: PreTrainedModel, folder: Path) -> PeftModel:
    """The model with the adapter of a folder over it, nothing of which is trained: a base that is quantized stays so.

    Raises:
        ConfigurationError, InputMissingError: as `merge`.
    """
    attached = _load(model, folder, trains=False)
    _take_dtype_of_training(attached)
    return attached


def merge(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """The model with the adapter of a folder merged into its weights: added in fp32, and rounded once.

    Raises:
        ConfigurationError: the adapter is not one for this model.
        InputMissingError: its weights are not there.
    """
    attached = _load(model, folder, trains=False)
    _check_untied(attached)
    for layer in attached.modules():
        if isinstance(layer, LoraLayer):
            with _weights_in_fp32(layer):
                layer.merge()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # All is merged already, as it says of each layer.
        merged: PreTrainedModel = attached.merge_and_unload()
    merged.requires_grad_(True)  # peft froze it.
    return merged


def _lora_config(adapter: Adapter, folders: ModelFolders) -> LoraConfig:
    names = adapter.target_modules
    return LoraConfig(
        base_model_name_or_path=folders.base_name,
        revision=folders.base_revision,
        task_type="CAUSAL_LM",
        r=adapter.r,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=ALL_LINEAR if names == [ALL_LINEAR] else names,
        modules_to_save=adapter.modules_to_save or None,
        use_dora=adapter.use_dora,
        use_rslora=adapter.use_rslora,
    )


def _take_dtype_of_training(attached: PeftModel) -> None:
    """Give an adapter the dtype of the model: over weights in int8 peft makes it in fp32."""
    dtype = attached.get_base_model().dtype
    for name, parameter in attached.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(cast("torch.dtype", dtype))


def _load(model: PreTrainedModel, folder: Path, *, trains: bool) -> PeftModel:
    hint = "give the adapter together with the base that it was trained on"
    if not any(folder.glob("adapter_model.*")):
        raise InputMissingError(f"{folder} holds no weights of an adapter: there is no adapter_model.safetensors", hint)
    _check_widths(model, folder)
    with input_errors(ConfigurationError, f"{folder} does not load as an adapter of its base", hint):
        loaded = PeftModel.from_pretrained(model, folder, is_trainable=trains, autocast_adapter_dtype=False)
        stored = set(load_peft_weights(str(folder), device="cpu"))
    _check_whole(loaded, stored, folder, hint)
    return loaded


def _check_widths(model: PreTrainedModel, folder: Path) -> None:
    """See that the layers of the base are as wide as those that an adapter was trained on.

    Raises:
        ConfigurationError: one is not.
    """
    layers = dict(model.named_modules())
    for change in changes_of(folder):
        layer = layers.get(change.module)
        if isinstance(layer, nn.Linear):
            width = layer.in_features if change.side == "inputs" else layer.out_features
            if width != change.width:
                raise of_another_base(folder, change, width)


def _check_whole(model: PeftModel, stored: set[str], folder: Path, hint: str) -> None:
    """See that a folder has each weight of an adapter, and none that the base has no place for: peft only warns.

    Raises:
        ConfigurationError: it does not.
    """
    missing = set(get_peft_model_state_dict(model, save_embedding_layers=False)) - stored
    if missing:
        raise ConfigurationError(f"{folder} lacks the adapter's weights {some(missing)}", hint)
    unexpected = stored - set(get_peft_model_state_dict(model, save_embedding_layers=True))
    if unexpected:
        raise ConfigurationError(f"{folder} holds weights that its base has no place for: {some(unexpected)}", hint)


def _check_untied(model: PeftModel) -> None:
    """See that no adapter lies on an embedding that is the head, too: merged into the one, it would change the other.

    Raises:
        ConfigurationError: one does.
    """
    ends = [model.get_input_embeddings(), model.get_output_embeddings()]
    if ends[0].weight is ends[1].weight and any(isinstance(each, LoraLayer) for each in ends):
        raise changes_tied("the adapter lies on the embeddings")


@contextmanager
def _weights_in_fp32(layer: LoraLayer) -> Iterator[None]:
    """Wrap a change to the weights under an adapter: they are whole, and in fp32, and rounded to their dtype after."""
    parameters = list(layer.get_base_layer().parameters())
    with deepspeed.zero.GatheredParameters(parameters, modifier_rank=0, enabled=hasattr(parameters[0], "ds_id")):
        stored = [parameter.data for parameter in parameters]
        cast("nn.Module", layer).float()
        yield
        for parameter, data in zip(parameters, stored, strict=True):
            data.copy_(parameter.data.to(data.dtype))
            parameter.data = data

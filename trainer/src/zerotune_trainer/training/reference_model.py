"""The model that is the reference: the one that is trained, as it was, or the one that `referenceModel` names."""

from __future__ import annotations

from typing import NamedTuple

from peft import PeftModel
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from zerotune_trainer import data, model_checks
from zerotune_trainer.adapters import ModelFolders, model_folders
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.sources import Model
from zerotune_trainer.data import PreparedData
from zerotune_trainer.data.tokenizer import load_tokenizer
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.model import load_initial
from zerotune_trainer.progress import Reporter


class ReferenceModel(NamedTuple):
    """A model on this machine that is fit to judge the rows."""

    config: TrainConfig
    """That of the job, with this model as its model."""
    folders: ModelFolders
    architecture: PretrainedConfig

    def load(self, tokenizer: PreTrainedTokenizerBase) -> PreTrainedModel | PeftModel:
        """The model, in the precision of training; quantized as that which is trained, where it is the same.

        Raises:
            ZerotuneError: as `model.load_initial`.
        """
        return load_initial(self.config, self.folders, tokenizer)


def reference_model(
    own: ReferenceModel, tokenizer: PreTrainedTokenizerBase, rows: PreparedData, report: Reporter
) -> ReferenceModel:
    """The model that the job names as the reference, fetched and checked; where it names none, its own.

    Args:
        own: The model that is trained, as it is before.
        tokenizer: What the rows were tokenized with.
        rows: What the reference is to judge.
        report: Gets a warning where the reference brings no tokenizer to compare.

    Raises:
        ConfigurationError: the reference has another vocabulary, or too few positions, or cannot be loaded.
        InputMissingError, TemporaryError: as `storage.local_folder`.
    """
    named = own.config.preference.reference_model if own.config.preference else None
    if named is None:
        return own
    model = Model(
        uri=named.uri,
        revision=named.revision,
        trust_remote_code=named.trust_remote_code,
        attn_implementation=own.config.model.attn_implementation,
    )
    # Another model is judged with as it is: the adapter, and how its base is quantized, are for the job's own.
    nothing_known = {"model_shape": None, "model_source": None, "base_uri": None, "adapter": None}
    config = own.config.model_copy(update={"model": model, **nothing_known})
    folders = model_folders(config)
    model_checks.check_config(config, folders.base)
    empty = model_checks.empty_model(model, folders.base)
    model_checks.check_weights(empty, folders.base, folders.base_name)
    _check_vocabulary(tokenizer, model, folders, report)
    model_checks.check_tokens(empty, tokenizer, rows.splits.values())
    longest = max(data.padded_length(config, split.longest()) for split in rows.splits.values())
    model_checks.check_positions(empty, longest)
    return ReferenceModel(config, folders, empty.config)


def _check_vocabulary(
    tokenizer: PreTrainedTokenizerBase, model: Model, folders: ModelFolders, report: Reporter
) -> None:
    """See that a token id means the same to the reference as to the model that is trained.

    Raises:
        ConfigurationError: it does not.
    """
    if not any(folders.tokenizer.glob("*token*")):
        report.warning(f"{folders.tokenizer} holds no tokenizer: it must have been trained with that of the model")
        return
    ours, theirs = (
        {number: token for token, number in each.get_vocab().items()}
        for each in (tokenizer, load_tokenizer(model, folders.tokenizer))
    )
    differing = [number for number in sorted(ours.keys() & theirs.keys()) if ours[number] != theirs[number]]
    if differing:
        first = differing[0]
        raise ConfigurationError(
            f"preference.referenceModel {model.uri} has another vocabulary: token {first} is {theirs[first]!r}, and to "
            f"the model that is trained {ours[first]!r}",
            "name a reference that was trained with the tokenizer of the model",
        )

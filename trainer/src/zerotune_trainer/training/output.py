"""The output of a training run: written to a draft, measured, moved into place, and its manifest last."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from pydantic import TypeAdapter
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from zerotune_trainer.adapters import ModelFolders
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.data import DataCounts
from zerotune_trainer.manifest import (
    MANIFEST_NAME,
    METRICS_NAME,
    SCRIPT_METRICS_NAME,
    SCRIPT_RESULTS_NAME,
    Manifest,
    ManifestFile,
    completion,
    describe,
    files_of,
)
from zerotune_trainer.model import load_merged
from zerotune_trainer.ownership import Ownership
from zerotune_trainer.progress import Completion, TopologyEntry
from zerotune_trainer.reporting.card import write_card
from zerotune_trainer.reporting.report import write_report
from zerotune_trainer.reporting.results import (
    RESULTS_NAME,
    TOPOLOGY_NAME,
    EvalRecord,
    Results,
    TrainRecord,
    final_progress,
    read_metrics,
)
from zerotune_trainer.storage import Folder
from zerotune_trainer.training.drafts import discard_drafts, draft_folder
from zerotune_trainer.training.samples import collect_samples, discard_samples
from zerotune_trainer.training.trackers import copy_trackers
from zerotune_trainer.training.zero import ParameterCounts

ADAPTER_FOLDER = "adapter"
"""Where the adapter lies in an output that holds the merged model."""


@dataclass(frozen=True)
class Run:
    """What the output has of the run, besides the model."""

    state: TrainerState
    topology: list[TopologyEntry]
    counts: DataCounts
    zero_stage: int
    folders: ModelFolders
    """The model that it started from."""
    parameters: ParameterCounts
    skipped: list[str]
    """Checkpoints that were not used when the run was resumed, and why."""
    changes: list[str]
    """What has changed since training began: the data, the plug-in, the configuration."""
    plugin_digest: str | None = None
    """Of the user's plug-in, where it changes how rows are trained on."""


def write_output(
    ownership: Ownership,
    config: TrainConfig,
    run: Run,
    model: PreTrainedModel | PeftModel,
    weights: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
) -> Manifest:
    """Write all of the output. Rank 0 calls it.

    Raises:
        OSError, SafetensorError: it cannot be written; `ownership.writing_errors` says what that means.
        SupersededError: a later attempt has the folder: this one completes nothing any more.
        TemporaryError, ConfigurationError: the store does not take it.
    """
    output = ownership.folder
    draft = draft_folder(output.local, config.job.attempt)
    discard_drafts(output.local, config.job.attempt)
    draft.mkdir()
    _save_model(draft, config, run, model, weights)
    tokenizer.save_pretrained(draft)
    _describe_run(draft, output, config, run)
    files = describe(draft, files_of(draft))
    ownership.verify()
    _move_into_place(draft, output.local, files)
    output.push([file.path for file in files])
    manifest = Manifest(
        job=config.job,
        config_digest=config.digest(),
        step=run.state.global_step,
        files=files,
        plugin_digest=run.plugin_digest,
    )
    ownership.verify()
    output.write(MANIFEST_NAME, manifest.encoded())
    if config.evaluation.generation is not None:
        discard_samples(output)
    return manifest


def _save_model(
    draft: Path, config: TrainConfig, run: Run, model: PreTrainedModel | PeftModel, weights: dict[str, Any]
) -> None:
    """Save what was trained: all of the model, or an adapter; with `merge` also the model with it merged in."""
    if not isinstance(model, PeftModel):
        model.save_pretrained(draft, state_dict=_each_once(model, weights))
        return
    merges = config.adapter is not None and config.adapter.merge
    folder = draft / ADAPTER_FOLDER if merges else draft
    model.save_pretrained(str(folder), state_dict=weights, save_embedding_layers=False)
    if merges:
        unset_hf_deepspeed_config()  # type: ignore[no-untyped-call]  # At stage 3 it would load a share of the weights alone.
        load_merged(config, run.folders.base, folder).save_pretrained(draft)


def _each_once(model: PreTrainedModel, weights: dict[str, Any]) -> dict[str, Any]:
    """The weights without those that are tied to others.

    DeepSpeed gathers copies, by which transformers no longer sees that two names are one tensor.
    """
    return {name: weight for name, weight in weights.items() if name not in model.all_tied_weights_keys}


def completion_of(output: Folder, manifest: Manifest) -> Completion:
    """What is reported of a complete output: the figures that it holds."""
    for name in (METRICS_NAME, RESULTS_NAME, SCRIPT_METRICS_NAME, SCRIPT_RESULTS_NAME):
        output.fetch(name)
    return completion(output.uri, manifest, final_progress(output.local))


def _describe_run(draft: Path, output: Folder, config: TrainConfig, run: Run) -> None:
    shutil.copyfile(output.local / METRICS_NAME, draft / METRICS_NAME)
    copy_trackers(output.local, draft)
    if config.evaluation.generation is not None:
        steps = (record.step for record in read_metrics(draft) if isinstance(record, EvalRecord))
        collect_samples(output, draft, steps)
    results = _results(draft, config, run)
    run.state.save_to_json(str(draft / "trainer_state.json"))
    topology = TypeAdapter(list[TopologyEntry]).dump_json(run.topology, by_alias=True, indent=2)
    (draft / TOPOLOGY_NAME).write_bytes(topology)
    (draft / RESULTS_NAME).write_text(results.model_dump_json(by_alias=True, indent=2) + "\n", encoding="utf-8")
    write_card(draft, config, results, run.folders.base)
    write_report(draft, config)


def _move_into_place(draft: Path, output: Path, files: Sequence[ManifestFile]) -> None:
    for file in files:
        target = output / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        (draft / file.path).replace(target)
    shutil.rmtree(draft)


def _results(folder: Path, config: TrainConfig, run: Run) -> Results:
    records = list(read_metrics(folder))
    losses = [record.loss for record in records if isinstance(record, TrainRecord) and record.loss is not None]
    evaluations = [record for record in records if isinstance(record, EvalRecord)]
    best = run.state.best_global_step if config.evaluation.load_best_model_at_end else None
    final = next((record for record in evaluations if record.step == best), evaluations[-1] if evaluations else None)
    return Results(
        steps=run.state.global_step,
        zero_stage=run.zero_stage,
        trained_parameters=run.parameters.trained,
        parameters=run.parameters.total,
        epochs=run.state.epoch,
        tokens=run.state.num_input_tokens_seen,
        seconds=records[-1].elapsed_seconds if records else None,
        train_loss=sum(losses) / len(losses) if losses else None,
        eval_loss=final.eval_loss if final else None,
        perplexity=final.perplexity if final else None,
        first_eval_loss=evaluations[0].eval_loss if evaluations else None,
        first_perplexity=evaluations[0].perplexity if evaluations else None,
        control_perplexity=final.control_perplexity if final else None,
        first_control_perplexity=evaluations[0].control_perplexity if evaluations else None,
        metrics=final.metrics if final else None,
        first_metrics=evaluations[0].metrics if evaluations else None,
        best_step=best,
        counts=run.counts.model_dump(by_alias=True),
        skipped_checkpoints=run.skipped,
        changes=run.changes,
    )

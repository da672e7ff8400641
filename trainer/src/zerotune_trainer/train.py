"""The one training path, from a job's folder to a finished output. Every rank runs it.

meet > data > join > model > resume > train > save > figures, card, report, manifest
"""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import TypeAdapter
from transformers.utils.generic import is_flash_attention_requested
from transformers.utils.logging import disable_progress_bar

from zerotune_trainer import data, distributed, methods, model
from zerotune_trainer.atomic import write_atomically
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.context import RankContext
from zerotune_trainer.data import PreparedData
from zerotune_trainer.errors import StoppedError
from zerotune_trainer.manifest import MANIFEST_NAME, Manifest, completion, describe, files_of
from zerotune_trainer.ownership import Ownership, complete_manifest, open_output, writing_errors
from zerotune_trainer.progress import TopologyEntry
from zerotune_trainer.reporting.card import write_card
from zerotune_trainer.reporting.report import write_report
from zerotune_trainer.reporting.results import (
    METRICS_NAME,
    RESULTS_NAME,
    TOPOLOGY_NAME,
    EvalRecord,
    Results,
    TrainRecord,
    final_progress,
    read_metrics,
)
from zerotune_trainer.storage import Folder, local_folder
from zerotune_trainer.training import zero
from zerotune_trainer.training.arguments import training_arguments
from zerotune_trainer.training.checkpoint import Checkpoints
from zerotune_trainer.training.packing_check import PackingCheck
from zerotune_trainer.training.records import Recorder
from zerotune_trainer.training.trainer import CausalTrainer, EvaluationStoppedError

zero.import_muon_lazily()
disable_progress_bar()  # type: ignore[no-untyped-call]
_log = logging.getLogger(__name__)


def train(config: TrainConfig, context: RankContext) -> None:
    """Train, evaluate and save what `config` describes. A job that has finished is left as it is.

    Raises:
        StoppedError: the job was asked to stop; there is a checkpoint if it had made a step and saves at all.
        ZerotuneError: whatever else keeps the job from finishing, as its class says.
    """
    trainer_class = methods.trainer_class(config.method)
    cache = Path(config.launch.cache_dir)
    output = open_output(config.output_uri, cache)
    if (manifest := complete_manifest(output, config)) is not None:
        _log.warning("%s is finished: %s has its result", config.job.name, output.uri)
        if context.rank == 0:
            _complete(context, output, manifest)
        return

    context.report.phase("rendezvous")
    store = distributed.meet(context, config.launch)

    context.report.phase("data")
    model_folder = local_folder(config.model_uri, cache, config.model.revision)
    model.check_shape(config.model_shape, model_folder)
    model.check_weights(config.model, model_folder)
    tokenizer = model.load_tokenizer(config.model, model_folder)
    rows = data.prepare(config, tokenizer)
    _stop_if_asked(context, context.stop.is_set())

    context.report.phase("rendezvous")
    topology = distributed.join(context, config.launch, store)
    checkpoints = _claim(config, context, output, cache)

    context.report.phase("model")
    deepspeed = zero.read_deepspeed(context.folder)
    arguments = training_arguments(config, deepspeed, checkpoints.path, evaluates=rows.validation is not None)
    loaded = model.load_for_training(config, model_folder)
    checkpoints.warn_on_volume(loaded)
    collator = data.collator(config, tokenizer, flash_attention=is_flash_attention_requested(loaded.config))
    trainer = trainer_class(
        context=context,
        checkpoints=checkpoints,
        recorder=Recorder(output.local, context.report, writes=context.rank == 0),
        model=loaded,
        args=arguments,
        train_dataset=rows.train,
        eval_dataset=rows.validation,
        data_collator=collator,
        processing_class=tokenizer,
        callbacks=[PackingCheck(collator)] if data.packing_of(config) == "bfd_split" else None,
    )
    _stop_if_asked(context, distributed.any_rank(context.stop.is_set()))

    _train(trainer, checkpoints, output)
    context.report.phase("saving")
    with writing_errors(output.uri):
        manifest = _save(trainer, config, output, rows, topology, model_folder)
    if manifest is not None:
        _complete(context, output, manifest)
    distributed.leave()
    context.report.phase("done")


def _stop_if_asked(context: RankContext, asked: bool) -> None:
    if asked:
        raise StoppedError(f"rank {context.rank} was asked to stop before the first step; there is nothing to keep")


def _claim(config: TrainConfig, context: RankContext, output: Folder, cache: Path) -> Checkpoints:
    """Make the output and the checkpoints the job's own, and let every rank know where the checkpoints are."""
    distributed.on_first_rank(Ownership(output, config.job).acquire)
    # Hosts of one machine share its cache; what a host stages there for S3 is its own.
    folder = open_output(config.checkpoint.uri or f"{output.uri}/checkpoints", cache / context.host.name)
    distributed.on_first_rank(Ownership(folder, config.job).acquire)
    return Checkpoints(folder, config, context, output.local)


def _train(trainer: CausalTrainer, checkpoints: Checkpoints, output: Folder) -> None:
    """Run all steps, from the last whole checkpoint on; then take the best state where that is asked for."""
    resumed = checkpoints.choose()
    _log.info("training begins at %s", resumed.name if resumed else "the beginning")
    if resumed is None and trainer.args.process_index == 0:
        (output.local / METRICS_NAME).unlink(missing_ok=True)
    trainer.args.eval_on_start = resumed is None and trainer.args.eval_strategy != "no"
    try:
        trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    except EvaluationStoppedError:
        trainer.save_interrupted()
    if trainer.flow.stopped:
        kept = f"checkpoint-{trainer.state.global_step}" if trainer.flow.is_saved(trainer.state) else "no checkpoint"
        raise StoppedError(f"stopped on request after step {trainer.state.global_step}, with {kept}")
    best = checkpoints.best(trainer.state)
    if best is not None:
        trainer.load_weights(best)


def _save(
    trainer: CausalTrainer,
    config: TrainConfig,
    output: Folder,
    rows: PreparedData,
    topology: list[TopologyEntry],
    model_folder: Path,
) -> Manifest | None:
    """Write the output: weights by all ranks, everything else by rank 0, the manifest last. Rank 0 returns that."""
    model.save_model(trainer, output.local)
    if trainer.args.process_index != 0:
        return None
    folder = output.local
    results = _results(trainer, folder, rows)
    trainer.state.save_to_json(str(folder / "trainer_state.json"))
    topology_json = TypeAdapter(list[TopologyEntry]).dump_json(topology, by_alias=True, indent=2)
    write_atomically(folder / TOPOLOGY_NAME, topology_json)
    write_atomically(folder / RESULTS_NAME, results.model_dump_json(by_alias=True, indent=2).encode() + b"\n")
    write_card(folder, config, results, model_folder)
    write_report(folder, config)
    files = describe(folder, [path for path in files_of(folder) if path.parent == folder])
    output.push([file.path for file in files])
    manifest = Manifest(job=config.job, config_digest=config.digest(), step=trainer.state.global_step, files=files)
    output.write(MANIFEST_NAME, manifest.encoded())
    return manifest


def _complete(context: RankContext, output: Folder, manifest: Manifest) -> None:
    """Say that the result is complete, with the figures that it holds."""
    for name in (METRICS_NAME, RESULTS_NAME):
        output.fetch(name)
    context.report.completion(completion(output.uri, manifest, final_progress(output.local)))


def _results(trainer: CausalTrainer, folder: Path, rows: PreparedData) -> Results:
    records = list(read_metrics(folder))
    losses = [record.loss for record in records if isinstance(record, TrainRecord) and record.loss is not None]
    evaluations = [record for record in records if isinstance(record, EvalRecord)]
    state = trainer.state
    best = state.best_global_step if trainer.checkpoints.keeps_best else None
    final = next((record for record in evaluations if record.step == best), evaluations[-1] if evaluations else None)
    return Results(
        steps=state.global_step,
        zero_stage=trainer.accelerator.state.deepspeed_plugin.zero_stage,
        epochs=state.epoch,
        tokens=state.num_input_tokens_seen,
        seconds=records[-1].elapsed_seconds,
        train_loss=sum(losses) / len(losses),
        eval_loss=final.eval_loss if final else None,
        perplexity=final.perplexity if final else None,
        first_eval_loss=evaluations[0].eval_loss if evaluations else None,
        first_perplexity=evaluations[0].perplexity if evaluations else None,
        best_step=best,
        counts=rows.counts.model_dump(by_alias=True),
    )

"""The one training path, from a job's folder to a finished output. Every rank runs it.

rendezvous > data > process group > model > resume > train > save > figures, card, report, manifest
"""

from __future__ import annotations

import logging
from pathlib import Path

from transformers import TrainerCallback, TrainingArguments
from transformers.utils.logging import disable_progress_bar

from zerotune_trainer import collectives, compat, data, distributed, methods, model, model_checks
from zerotune_trainer.adapters import adapter_warnings, model_folders
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.packages import require_adapter, require_packages
from zerotune_trainer.context import RankContext
from zerotune_trainer.counting import counted
from zerotune_trainer.data import PreparedData
from zerotune_trainer.data.tokenizer import load_tokenizer
from zerotune_trainer.errors import DataError, StoppedError
from zerotune_trainer.input_errors import is_of_machine
from zerotune_trainer.manifest import METRICS_NAME
from zerotune_trainer.mesh import Mesh
from zerotune_trainer.origins import check_origins
from zerotune_trainer.ownership import Ownership, open_output, writing_errors
from zerotune_trainer.plugin import load_plugin, plugin_digest
from zerotune_trainer.rendezvous import rendezvous
from zerotune_trainer.samples.generator import SampleGenerator
from zerotune_trainer.samples.prompts import read_prompts
from zerotune_trainer.sizing.flops import Utilization
from zerotune_trainer.sizing.model_config import shape_of_file
from zerotune_trainer.storage import Folder
from zerotune_trainer.training import zero
from zerotune_trainer.training.arguments import training_arguments
from zerotune_trainer.training.callbacks.finite_loss import FiniteLoss
from zerotune_trainer.training.callbacks.forgetting import ForgettingLimit
from zerotune_trainer.training.callbacks.metrics_logger import MetricsLogger
from zerotune_trainer.training.callbacks.saving import SaveOnce, evaluation_is_pending
from zerotune_trainer.training.callbacks.stopping import StopTogether
from zerotune_trainer.training.checkpoints.reader import CheckpointReader
from zerotune_trainer.training.checkpoints.sharing import Share
from zerotune_trainer.training.checkpoints.store import CheckpointStore
from zerotune_trainer.training.checkpoints.writer import CheckpointWriter
from zerotune_trainer.training.drafts import staging_folder
from zerotune_trainer.training.folders import acquire, finished
from zerotune_trainer.training.output import Run, completion_of, write_output
from zerotune_trainer.training.plugin_parts import PluginParts
from zerotune_trainer.training.reference import Reference, ReferenceStore
from zerotune_trainer.training.reference_model import ReferenceModel, reference_model
from zerotune_trainer.training.step_state import StepState
from zerotune_trainer.training.trackers import discard_trackers, prepare_trackers, tracked
from zerotune_trainer.training.trainer import CausalTrainer

compat.import_muon_lazily()
compat.keep_grad_norm()
compat.pickle_stages_by_value()
disable_progress_bar()  # type: ignore[no-untyped-call]
_log = logging.getLogger(__name__)


def train(config: TrainConfig, context: RankContext) -> None:
    """Train, evaluate and save what `config` describes. A job that has finished is left as it is.

    Raises:
        StoppedError: the job was asked to stop; there is a checkpoint if it had made a step and saves at all.
        ZerotuneError: whatever else keeps the job from finishing, as its class says.
    """
    method = methods.method_of(config.method)
    cache = Path(config.launch.cache_dir)
    output = open_output(config.output_uri, staging_folder(cache, config.job.attempt))
    ownership = Ownership(output, config.job)
    own_code = plugin_digest(config.plugin)
    if (manifest := finished(output, config, own_code)) is not None:
        _log.warning("%s is finished: %s has its result", config.job.name, output.uri)
        if context.rank == 0:
            context.report.completion(completion_of(output, manifest))
        return

    require_packages(config.training.arguments)
    require_adapter(config.adapter)
    context.report.phase("rendezvous")
    store = rendezvous(context, config.launch)

    context.report.phase("data")
    check_origins(config)
    folders = model_folders(config)
    model_checks.check_config(config, folders.base)
    empty = model_checks.empty_model(config.model, folders.base)
    model_checks.check_weights(empty, folders.base, folders.base_name)
    tokenizer = load_tokenizer(config.model, folders.tokenizer)
    rows = method.prepare(config, tokenizer)
    if not config.model.resize_embeddings:
        model_checks.check_tokens(empty, tokenizer, rows.splits.values())
    model_checks.check_positions(
        empty, max(data.padded_length(config, split.longest()) for split in rows.splits.values())
    )
    judge = reference_model(ReferenceModel(config, folders, empty.config), tokenizer, rows, context.report)
    step = StepState()
    plugin = PluginParts(config.plugin, step)
    texts = config.evaluation.generation
    prompts = read_prompts(config, texts, tokenizer, empty.config) if texts is not None else []
    _stop_if_asked(context, context.stop.is_set())

    context.report.phase("rendezvous")
    topology = distributed.init_process_group(context, config.launch, store)
    mesh = Mesh.of(context)
    _check_rows(context, rows)
    for text in (*rows.warnings, *method.warnings(config, rows.counts)) if context.rank == 0 else ():
        context.report.warning(text)
    checkpoint_store = CheckpointStore(acquire(config, context, ownership, cache), config, rows.digest, own_code)
    share = Share.of(checkpoint_store, context, mesh)
    checkpoints = CheckpointReader(checkpoint_store, config, share, output.local, context.report)

    context.report.phase("model")
    deepspeed = zero.read_deepspeed(context.folder)
    arguments = training_arguments(config, deepspeed, checkpoint_store.path, evaluates=rows.validation is not None)
    if context.rank == 0:
        prepare_trackers(arguments.report_to or (), output.local)
    found_again = ReferenceStore(checkpoint_store.folder, cache)
    reference = Reference(judge, arguments, mesh.data, context.report, found_again, tokenizer)
    judged_by = method.collator(config, tokenizer, judge.architecture)
    train_rows, validation_rows = method.completed(rows, reference, judged_by)
    loaded = model.load_for_training(config, folders, tokenizer)
    for text in adapter_warnings(loaded, config.adapter, folders) if context.rank == 0 else ():
        context.report.warning(text)
    method.extend(loaded)
    writer = CheckpointWriter(checkpoint_store, config, share, output.local)
    writer.warn_on_volume(loaded, loaded.dtype, context.report)
    collator = plugin.collator() or method.collator(config, tokenizer, loaded.config)
    shape, devices = shape_of_file(folders.base / "config.json"), [entry.device for entry in topology]
    frozen = config.adapter is not None
    utilization = Utilization.of_devices(shape, devices, config.training.precision, frozen=frozen)
    metrics = MetricsLogger(output.local, context.report, writes=context.rank == 0, utilization=utilization)
    trainer = CausalTrainer(
        evaluate=method.evaluation(config),
        objective=method.objective(config),
        mesh=mesh,
        step=step,
        report=context.report,
        metrics=metrics,
        checkpoints=writer,
        callbacks=[
            *plugin.callbacks(),
            *_callbacks(config, context, arguments, step, metrics),
            *method.callbacks(config, collator),
        ],
        compute_loss_func=plugin.loss(),
        samples=None
        if texts is None
        else SampleGenerator(
            texts,
            prompts,
            tokenizer,
            load_plugin(config.plugin),
            context,
            output,
            step,
            device=arguments.device,
            batch_size=arguments.eval_batch_size,
        ),
        model=loaded,
        args=arguments,
        train_dataset=train_rows,
        eval_dataset=validation_rows,
        control_dataset=rows.control,
        data_collator=collator,
        processing_class=tokenizer,
    )
    _stop_if_asked(context, collectives.any_rank(context.stop.is_set()))

    with tracked():
        _train(trainer, checkpoints, output, evaluates=arguments.eval_strategy != "no")
    context.report.phase("saving")
    with writing_errors(output.uri):
        weights = trainer.gather_weights()
        if weights is not None:
            stage = trainer.engine.zero_optimization_stage()
            parameters, found = zero.count_parameters(loaded), (checkpoints.skipped, checkpoints.changes)
            run = Run(trainer.state, topology, rows.counts, stage, folders, parameters, *found, own_code)
            manifest = write_output(ownership, config, run, loaded, weights, tokenizer)
            context.report.completion(completion_of(output, manifest))
    distributed.destroy_process_group()
    context.report.phase("done")


def _stop_if_asked(context: RankContext, asked: bool) -> None:
    if asked:
        raise StoppedError(f"rank {context.rank} was asked to stop before the first step; there is nothing to keep")


def _check_rows(context: RankContext, rows: PreparedData) -> None:
    """See that all ranks prepared the same rows: with others they would train on different data, or wait for ever.

    Raises:
        DataError: they did not, on every rank.
    """
    of_ranks = collectives.gather((rows.digest, len(rows.train)), tuple[str, int])
    others = {rank: found for rank, found in enumerate(of_ranks) if found != of_ranks[0]}
    if others:
        rank, (_, count) = next(iter(others.items()))
        raise DataError(
            f"rank {rank} on {context.hostfile.host_of_rank(rank).name} prepared {counted(count, 'row')} of other data "
            f"than rank 0 on {context.hostfile.master.name}, which prepared {of_ranks[0][1]}",
            "give every host the same files: see that they mount the same volume",
        )


def _callbacks(
    config: TrainConfig, context: RankContext, arguments: TrainingArguments, step: StepState, metrics: MetricsLogger
) -> list[TrainerCallback]:
    """What happens around a step, in the order that `training.callbacks` gives."""
    limit = config.evaluation.max_control_perplexity_increase
    return [
        metrics,
        FiniteLoss(step, lambda losses: collectives.gather(losses, dict[int, float])),
        SaveOnce(step, keeps_best=config.evaluation.load_best_model_at_end),
        StopTogether(step, context.stop, collectives.StepSync(arguments.ddp_timeout_delta)),
        *([ForgettingLimit(step, limit)] if limit is not None and arguments.eval_strategy != "no" else []),
    ]


def _train(trainer: CausalTrainer, checkpoints: CheckpointReader, output: Folder, *, evaluates: bool) -> None:
    """Run all steps, from the last whole checkpoint on; then take the best state where that is asked for."""
    resumed = checkpoints.choose()
    _log.info("training begins at %s", resumed.name if resumed else "the beginning")
    if resumed is None and trainer.args.process_index == 0:
        (output.local / METRICS_NAME).unlink(missing_ok=True)
        discard_trackers(output.local)
    trainer.args.eval_on_start = evaluates and (resumed is None or evaluation_is_pending(resumed))
    try:
        trainer.run(resumed)
    except Exception as error:
        if resumed is None or not trainer.step.loading or is_of_machine(error):
            raise
        raise checkpoints.failed(resumed, error) from error
    if trainer.step.forgotten is not None:
        raise trainer.step.forgotten
    if trainer.step.stopped:
        saved = trainer.step.saved_step == trainer.state.global_step
        kept = f"checkpoint-{trainer.state.global_step}" if saved else "no checkpoint"
        raise StoppedError(f"stopped on request after step {trainer.state.global_step}, with {kept}")
    best = checkpoints.best(trainer.state)
    if best is not None:
        trainer.load_weights(best)

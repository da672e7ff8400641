"""The one inference path, from a job's folder to its output files. Every rank runs it.

    meet > data > join > work > model > shard after shard: read, prompt, generate, write > figures, manifest

Each rank draws the next shard that nobody has (`inference/work.py` says what a shard is) until none is left. A killed
job starts again with the shards that were not whole: every record is in the output once, in order, whatever happened.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from zerotune_trainer import distributed, model
from zerotune_trainer.config import InferConfig
from zerotune_trainer.context import RankContext
from zerotune_trainer.data.files import resolve
from zerotune_trainer.data.processing import Process, load_processing
from zerotune_trainer.data.readers import Record
from zerotune_trainer.engines.transformers import TransformersEngine
from zerotune_trainer.errors import ConfigurationError, DataError
from zerotune_trainer.inference.output import final_progress, write_results, write_shard
from zerotune_trainer.inference.planning import open_work
from zerotune_trainer.inference.prompts import Prompts, longest_prompt
from zerotune_trainer.inference.rows import refuse_clash
from zerotune_trainer.inference.shards import ShardGenerator
from zerotune_trainer.inference.source import Source
from zerotune_trainer.inference.tracking import Counters, ProgressTracker
from zerotune_trainer.inference.work import WORK_NAME
from zerotune_trainer.manifest import Manifest, completion
from zerotune_trainer.ownership import complete_manifest, open_output, writing_errors
from zerotune_trainer.reporting.results import RESULTS_NAME
from zerotune_trainer.storage import Folder, local_folder

_log = logging.getLogger(__name__)


def infer(config: InferConfig, context: RankContext) -> None:
    """Generate for every record of the job. A job that has finished is left as it is.

    Raises:
        StoppedError: the job was asked to stop; whole shards are kept.
        ZerotuneError: whatever else keeps the job from finishing, as its class says.
    """
    _check_engine(config)
    cache = Path(config.launch.cache_dir)
    output = open_output(config.output_uri, cache)
    if (manifest := complete_manifest(output, config)) is not None:
        _log.warning("%s is finished: %s has its result", config.job.name, output.uri)
        if context.rank == 0:
            output.remove(WORK_NAME)
            _complete(context, output, manifest)
        return

    context.report.phase("rendezvous")
    store = distributed.meet(context, config.launch)

    context.report.phase("data")
    files = resolve(config.data, cache)
    folder = local_folder(config.model_uri, cache, config.model.revision)
    model.check_shape(config.model_shape, folder)
    tokenizer = model.load_tokenizer(config.model, folder)
    model.check_weights(config.model, folder)

    context.report.phase("rendezvous")
    distributed.join(context, config.launch, store)
    with writing_errors(output.uri):
        work = distributed.on_first_rank(lambda: open_work(output, config, files, context.world_size))
    source = Source(files, [file.records for file in work.plan.files])

    context.report.phase("model")
    tracker = ProgressTracker(context, Counters(store), work)
    process = load_processing(config.data.processing)
    loaded = _load_model(config, context, folder)
    shards = ShardGenerator(
        config=config,
        process=process,
        prompts=_prompts(config, tokenizer, list(_sample(config, source, process)), loaded),
        engine=TransformersEngine(loaded, tokenizer, config.generation),
        tokenizer=tokenizer,
        tracker=tracker,
    )

    context.report.phase("generating")
    remaining = work.remaining
    while (task := tracker.next_task()) < len(remaining):
        shard = remaining[task]
        rows, batches = shards.generate(source.read(work.plan.records_of(shard)))
        with writing_errors(output.uri):
            write_shard(output, config, work.plan, (shard, context.rank), rows, batches)
    tracker.wait_for_all()

    context.report.phase("saving")
    if context.rank == 0:
        with writing_errors(output.uri):
            manifest = write_results(output, config, work.plan)
        _complete(context, output, manifest)
    distributed.leave()
    context.report.phase("done")


def _complete(context: RankContext, output: Folder, manifest: Manifest) -> None:
    """Say that the result is complete, with the figures that it holds."""
    output.fetch(RESULTS_NAME)
    context.report.completion(completion(output.uri, manifest, final_progress(output.local)))


def _check_engine(config: InferConfig) -> None:
    if config.engine not in ("auto", "transformers"):
        raise ConfigurationError(f"engine {config.engine} is not there yet", "use engine: transformers")


def _load_model(config: InferConfig, context: RankContext, folder: Path) -> PreTrainedModel:
    accelerator = config.launch.accelerator
    device = f"cuda:{context.local_rank}" if accelerator == "cuda" else "cpu"
    precision = model.resolve_precision(config.precision, accelerator)
    return model.load_model(config.model, folder, precision, accelerator, device)


def _sample(config: InferConfig, source: Source, process: Process) -> Iterator[Record]:
    """The first records, as prompts are made of them."""
    for record in source.sample():
        refuse_clash(record, config.output_format)
        try:
            yield process(record)
        except DataError as error:
            _log.warning("%s", error.message)


def _prompts(
    config: InferConfig, tokenizer: PreTrainedTokenizerBase, sample: list[Record], loaded: PreTrainedModel
) -> Prompts:
    context_length = getattr(loaded.config.get_text_config(), "max_position_embeddings", None)
    longest = longest_prompt(config.data, context_length, config.generation.max_new_tokens)
    return Prompts(config.data, tokenizer, sample, longest)

"""The one inference path, from a job's folder to its output files. Every rank runs it.

    rendezvous > data > plan > verify > model > shard after shard: read, prompt, generate, write > verify > manifest

The ranks that hold one copy of the model draw the next shard that nobody has (`inference/plan.py` says what a shard is)
until none is left. A job that was killed starts again with the shards that are not whole: every record is in the output
once, in order. A job may have several replicas (`topology.replicas`), each a world of its own that goes this path.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from torch.distributed.distributed_c10d import Store

from zerotune_trainer import collectives, distributed, model_checks
from zerotune_trainer.adapters import model_folders
from zerotune_trainer.async_io import load_async_io
from zerotune_trainer.atomic import remove_drafts
from zerotune_trainer.collectives import Collectives
from zerotune_trainer.config import InferConfig
from zerotune_trainer.config.generation import longest_prompt
from zerotune_trainer.context import RankContext
from zerotune_trainer.data.files import DataFile, resolve
from zerotune_trainer.data.processing import Process, load_processing
from zerotune_trainer.data.readers import Record
from zerotune_trainer.data.tokenizer import load_tokenizer
from zerotune_trainer.engines import engine_class
from zerotune_trainer.errors import DataError, TemporaryError
from zerotune_trainer.inference.model_replica import model_replica_of
from zerotune_trainer.inference.output import ShardFiles, final_progress, finished, write_results
from zerotune_trainer.inference.plan import WORK_NAME, WorkPlan
from zerotune_trainer.inference.planning import open_plan
from zerotune_trainer.inference.prompts import Prompts
from zerotune_trainer.inference.rounds import Ranks, generate_all, generate_shared
from zerotune_trainer.inference.scoring import Scoring
from zerotune_trainer.inference.shards import ShardGenerator
from zerotune_trainer.inference.sharing import Sharing, joined
from zerotune_trainer.inference.source import Source
from zerotune_trainer.inference.verification import verify
from zerotune_trainer.manifest import Manifest, completion
from zerotune_trainer.origins import check_origins
from zerotune_trainer.ownership import Ownership, complete_manifest, open_output, writing_errors
from zerotune_trainer.plugin import PluginError
from zerotune_trainer.rendezvous import rendezvous
from zerotune_trainer.storage import Folder

_log = logging.getLogger(__name__)


def infer(config: InferConfig, context: RankContext) -> None:
    """Generate for every record of the job. A job that has finished is left as it is.

    Raises:
        StoppedError: the job was asked to stop; what has been generated is kept.
        ZerotuneError: whatever else keeps the job from finishing, as its class says.
    """
    engine_class(config)
    if config.offload_param == "nvme":
        load_async_io()  # Before ranks wait for each other: it may be compiled, for minutes.
    if context.replicas > 1 and config.launch.offload_dir is not None:
        own = Path(config.launch.offload_dir) / f"replica-{context.replica}"  # They may be on one machine.
        config = config.model_copy(update={"launch": config.launch.model_copy(update={"offload_dir": str(own)})})
    context.report.phase("rendezvous")
    store = rendezvous(context, config.launch)
    distributed.init_process_group(context, config.launch, store)
    generate_and_write(config, context, store, cast(Collectives, collectives))
    distributed.destroy_process_group()
    context.report.phase("done")


def generate_and_write(config: InferConfig, context: RankContext, store: Store, group: Collectives) -> None:
    """What follows once the ranks are together.

    Args:
        config: The job.
        context: This rank.
        store: That of the rendezvous.
        group: How they speak to each other.

    Raises:
        ZerotuneError: as `infer`.
    """
    cache = Path(config.launch.cache_dir)
    output = open_output(config.output_uri, cache)
    if group.on_first_rank(lambda: _complete_if_finished(config, context, output), bool):
        return
    with joined(config, context, output, group) as sharing:
        manifest = _make_output(config, context, store, group, output, sharing)
        if context.rank == 0:
            _complete(context, output, manifest or _written_by_another(config, output))


def _make_output(
    config: InferConfig,
    context: RankContext,
    store: Store,
    group: Collectives,
    output: Folder,
    sharing: Sharing | None,
) -> Manifest | None:
    """Make every shard, and the result; the manifest on the rank that has written it."""
    cache = Path(config.launch.cache_dir)
    context.report.phase("data")
    check_origins(config)
    files = _each_once(resolve(config.data, cache))
    folders = model_folders(config)
    model_checks.check_config(config, folders.base)
    empty = model_checks.empty_model(config.model, folders.base)
    model_checks.check_weights(empty, folders.base, folders.base_name)
    tokenizer = load_tokenizer(config.model, folders.tokenizer)
    ownership = Ownership(output, config.job)
    ranks_of_all = context.world_size * context.replicas
    plan_json = group.on_first_rank(lambda: open_plan(ownership, config, files, ranks_of_all, sharing).to_json(), str)
    plan = WorkPlan.model_validate_json(plan_json)
    gather_texts = functools.partial(group.gather, kind=str)
    shard_files = ShardFiles(ownership, config, plan, context.rank)
    if sharing is not None:
        shard_files = dataclasses.replace(shard_files, verify_claim=sharing.verify_shard(plan))
    work = verify(shard_files, context, gather_texts)

    context.report.phase("model")
    engine_type = engine_class(config)
    ranks_per_model_replica = engine_type.ranks_per_model_replica(config, context.world_size)
    model_replica = model_replica_of(context.rank, context.local_rank, ranks_per_model_replica, context.world_size)
    counts, marks = [file.records for file in plan.files], [file.marks for file in plan.files]
    source = Source(files, counts, config.output_format, marks)
    process = load_processing(config.plugin)
    engine = engine_type.load(config, model_replica)
    new_tokens = config.generation.max_new_tokens if config.task == "generate" else 0
    prompts = Prompts(
        config.data,
        tokenizer,
        list(_sample(source, process)),
        longest_prompt(config.data, engine.context_length, new_tokens),
        model_checks.embedding_count(empty),
        config.job.created,
    )
    generator = ShardGenerator(
        config=config,
        source=source,
        process=process,
        prompts=prompts,
        engine=engine,
        tokenizer=tokenizer,
        files=shard_files,
        scoring=Scoring(config, tokenizer, prompts) if config.task == "score" else None,
    )
    ranks = Ranks(context, model_replica, store, gather_texts)
    shards = generate_shared(generator, work, ranks, sharing) if sharing else generate_all(generator, work, ranks)
    engine.close()
    if context.rank != 0 or shards is None:
        return None
    if sharing is not None:
        remove_drafts(output.local)  # Of replicas that were lost.
    return write_results(shard_files, shards)


def _written_by_another(config: InferConfig, output: Folder) -> Manifest:
    """What another replica has written.

    Raises:
        TemporaryError: it is not there any more.
    """
    manifest = complete_manifest(output, config)
    if manifest is None:
        raise TemporaryError(f"{output.uri} had a manifest and has none", "see what else writes to this folder")
    return manifest


def _each_once(files: list[DataFile]) -> list[DataFile]:
    """The files without those that are named a second time, such as by a path and by a pattern that matches it."""
    counts = Counter(files)
    for file, count in counts.items():
        if count > 1:
            _log.warning("%s is named %d times by data.uris: its records are read once", file.name, count)
    return list(counts)


def _complete_if_finished(config: InferConfig, context: RankContext, output: Folder) -> bool:
    """Whether an earlier attempt has finished the job: then nothing is left to do but to say so."""
    manifest = finished(output, config)
    if manifest is None:
        return False
    _log.warning("%s is finished: %s has its result", config.job.name, output.uri)
    _complete(context, output, manifest)
    return True


def _complete(context: RankContext, output: Folder, manifest: Manifest) -> None:
    """Say that the result is complete, with the figures that it holds, and clear the work away."""
    if context.replicas == 1:
        with writing_errors(output.uri):
            output.remove(WORK_NAME)
    context.report.completion(completion(output.uri, manifest, final_progress(output, manifest)))


def _sample(source: Source, process: Process) -> Iterator[Record]:
    """The first records, as prompts are made of them."""
    for record in source.sample():
        try:
            yield process(record)
        except (DataError, PluginError) as error:
            _log.warning("%s", error.message)

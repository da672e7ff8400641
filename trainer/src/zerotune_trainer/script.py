"""Method script: a script of the user's own, run by every rank as the other methods are.

rendezvous > process group > output and checkpoints acquired > the script > its output sent, results, manifest last
"""

from __future__ import annotations

import logging
import os
import runpy
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from zerotune_trainer import collectives, compat, distributed, storage
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.script import Script
from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import SEE_TRACEBACK, ConfigurationError, InternalError, ZerotuneError
from zerotune_trainer.failures import classify, placed, where_in
from zerotune_trainer.manifest import (
    MANIFEST_NAME,
    SCRIPT_METRICS_NAME,
    SCRIPT_RESULTS_NAME,
    Manifest,
    ManifestFile,
    describe,
    files_of,
)
from zerotune_trainer.origins import check_origins
from zerotune_trainer.ownership import Ownership, open_output, writing_errors
from zerotune_trainer.rendezvous import rendezvous
from zerotune_trainer.reporting.results import Results
from zerotune_trainer.script_job import ZEROTUNE_CHECKPOINTS, ZEROTUNE_OUTPUT, ScriptJob, enter
from zerotune_trainer.training.drafts import staging_folder
from zerotune_trainer.training.folders import acquire, finished
from zerotune_trainer.training.output import completion_of

_OWN_MANIFEST_NAME = "script-manifest.json"
_log = logging.getLogger(__name__)


def script(config: TrainConfig, context: RankContext) -> None:
    """Run the job's script. A job that has finished is left as it is.

    Raises:
        StoppedError: the job was asked to stop, and the script stopped.
        ConfigurationError: the script failed, wrote nothing to the output, or removed it.
        ZerotuneError: whatever else keeps the job from finishing, as its class says.
    """
    cache = Path(config.launch.cache_dir)
    output = Ownership(open_output(config.output_uri, staging_folder(cache, config.job.attempt)), config.job)
    if (manifest := finished(output.folder, config)) is not None:
        _log.warning("%s is finished: %s has its result", config.job.name, output.folder.uri)
        _report(output, manifest, context)
        return
    assert config.script is not None, "validation asks for it"
    context.report.phase("rendezvous")
    distributed.init_process_group(context, config.launch, rendezvous(context, config.launch))
    compat.keep_process_group()
    context.report.phase("data")
    check_origins(config)
    checkpoints = acquire(config, context, output, cache)
    if context.local_rank == 0:
        checkpoints.folder.pull()
    if context.rank == 0:
        output.folder.fetch(SCRIPT_METRICS_NAME)
    collectives.barrier()
    job = ScriptJob(config, context, output, checkpoints)
    enter(job)
    context.report.phase("training")
    with _script_file(config.script) as path:
        _run(path, config.script, job)
    collectives.barrier()
    context.report.phase("saving")
    with writing_errors(output.folder.uri):
        _report(output, _complete(output, job), context)
    distributed.destroy_process_group()
    context.report.phase("done")


@contextmanager
def _script_file(script: Script) -> Iterator[Path]:
    """The script on this machine: its own file, whose neighbours it may import, or a copy."""
    local = storage.locate(script.file).local
    if local is not None:
        storage.read_bytes(script.file)  # Says what is wrong where it is not there.
        yield local
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / PurePosixPath(script.file).name
        path.write_bytes(storage.read_bytes(script.file))
        yield path


def _run(path: Path, script: Script, job: ScriptJob) -> None:
    """Run a script as `python SCRIPT ARGUMENTS` does, in this process.

    Raises:
        StoppedError: it stopped on request.
        ConfigurationError: it raised an error, or ended with another exit code than 0.
        ZerotuneError: what an error of memory, of the disk or of another rank means.
    """
    os.environ.pop("TORCH_FORCE_WEIGHTS_ONLY_LOAD", None)  # The user's script may trust the user's files.
    os.environ.update(
        ZEROTUNE_FOLDER=str(job.context.folder),
        **{ZEROTUNE_OUTPUT: str(job.output), ZEROTUNE_CHECKPOINTS: str(job.checkpoints)},
    )
    sys.argv = [str(path), *script.arguments]
    sys.path.insert(0, str(path.parent))
    end = job.keep_alive_until_reported()
    try:
        runpy.run_path(str(path), run_name="__main__")
    except SystemExit as ended:
        if ended.code not in (None, 0):
            is_text = isinstance(ended.code, str)
            said = f"ended: {ended.code}" if is_text else f"ended with exit code {ended.code}"
            raise ConfigurationError(f"{script.file} {said}", "see its last lines in the log") from ended
    except Exception as error:
        job.require_output()
        raise _of_script(error, script, path.parent) from error
    finally:
        end()


def _of_script(error: Exception, script: Script, folder: Path) -> ZerotuneError:
    found = classify(error)
    where = where_in(error, lambda file: Path(file).is_relative_to(folder))
    if isinstance(error, ZerotuneError) or type(found) is not InternalError:
        return placed(error, found, f"{script.file}{where}")
    return ConfigurationError(
        f"{script.file} failed: {type(error).__name__}: {error}{where}",
        f"correct the script; {SEE_TRACEBACK}",
    )


def _complete(output: Ownership, job: ScriptJob) -> Manifest:
    """Send what the ranks have written, and write the manifest of it."""
    folder, context = output.folder, job.context
    step = job.last.step if job.last else 0
    job.require_output()
    if context.rank == 0:
        (folder.local / SCRIPT_METRICS_NAME).touch()
        results = Results(steps=step, train_loss=job.last.loss if job.last else None)
        (folder.local / SCRIPT_RESULTS_NAME).write_text(results.model_dump_json(by_alias=True, indent=2) + "\n")
    collectives.barrier()
    writes = context.rank == 0 or (folder.is_staged and context.local_rank == 0)
    if writes:
        _keep_own_manifest(job)
    mine = describe(folder.local, _result_files(job)) if writes else []
    folder.push([file.path for file in mine])
    of_ranks = collectives.gather(mine, list[ManifestFile])
    files = {file.path: file for each in reversed(of_ranks) for file in each}
    _require_result(set(files), output, job)
    manifest = Manifest(
        job=job.config.job,
        config_digest=job.config.digest(),
        step=step,
        files=[files[path] for path in sorted(files)],
    )

    def write() -> None:
        output.verify()
        folder.write(MANIFEST_NAME, manifest.encoded())

    collectives.on_first_rank(write, type(None))
    return manifest


def _keep_own_manifest(job: ScriptJob) -> None:
    """Give a manifest that the script has written another name: ours says that the output is complete."""
    own = job.output / MANIFEST_NAME
    if own.is_file():
        own.replace(job.output / _OWN_MANIFEST_NAME)
        job.context.report.warning(
            f"{own}, which the script has written, is kept as {_OWN_MANIFEST_NAME}: the manifest of the output has its "
            "name"
        )


def _require_result(paths: set[str], output: Ownership, job: ScriptJob) -> None:
    """See that a script wrote something besides what we keep of its progress.

    Raises:
        ConfigurationError: it did not.
    """
    if paths <= {SCRIPT_METRICS_NAME, SCRIPT_RESULTS_NAME}:
        assert job.config.script is not None, "validation asks for it"
        raise ConfigurationError(
            f"{job.config.script.file} wrote no files to the output folder {output.folder.uri}",
            "write the result below the folder that the environment variable ZEROTUNE_OUTPUT names, also "
            "`script_job.current().output`; checkpoints are no part of it",
        )


def _result_files(job: ScriptJob) -> list[Path]:
    """What lies in the output but checkpoints.

    Raises:
        ConfigurationError: there is a link in it that leads to a folder, or out of it: the result would not be whole.
    """
    for path in job.output.rglob("*"):
        if path.is_symlink() and not (path.is_file() and path.resolve().is_relative_to(job.output.resolve())):
            raise ConfigurationError(
                f"{path} is a link to {path.readlink()}, which is no file of the output",
                "copy what it leads to into the folder that ZEROTUNE_OUTPUT names, or remove the link",
            )
    return [path for path in files_of(job.output) if not path.is_relative_to(job.checkpoints)]


def _report(output: Ownership, manifest: Manifest, context: RankContext) -> None:
    if context.rank == 0:
        context.report.completion(completion_of(output.folder, manifest))

"""The checkpoints of a FineTuneJob of this machine, as the model of another job."""

from __future__ import annotations

import json
from pathlib import Path

from zerotune_operator.api.origins import Origin
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.plan.outputs import checkpoint_of
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError, InputMissingError


def find_checkpoint(origin: Origin, name: str, source: JobFolder, output: str) -> tuple[str, ModelShape]:
    """Where a checkpoint of a job is, and the shape of the model that it holds.

    Args:
        origin: What names the job.
        name: `checkpoint-STEP`, `last` or `best`.
        source: The job's folder.
        output: URI of its output.

    Raises:
        InputMissingError: the job has not begun, or has no complete checkpoint.
        ConfigurationError: its checkpoints are not those of a whole model, or are not on this machine.
    """
    status = source.read_status()
    if status.model is None or status.model_uri is None:
        raise InputMissingError(f"{origin} has not begun: it has no checkpoint", "run that job first")
    spec = source.read_job().spec.model_dump(by_alias=True, exclude_none=True)
    spec["output"]["uri"] = output
    uri, shape = checkpoint_of(spec, origin, name, status.model, status.model_uri)
    if name not in ("last", "best"):
        return uri, shape
    folder = uri.removesuffix(f"/{name}")
    if not folder.startswith("file://"):
        raise ConfigurationError(
            f"model.checkpoint {name}: the checkpoints of {origin} are in {folder}, which is not on this machine",
            "name one: checkpoint-STEP",
        )
    return f"{folder}/{_found(Path(folder.removeprefix('file://')), name)}", shape


def _found(folder: Path, name: str) -> str:
    """The last complete checkpoint of a folder, or the one that it says evaluated best."""
    complete = [path.parent for path in folder.glob("checkpoint-*/manifest.json")]
    if not complete:
        raise InputMissingError(f"{folder} has no complete checkpoint yet", "wait for the first one")
    last = max(complete, key=lambda path: int(path.name.partition("-")[2]))
    if name == "last":
        return last.name
    best = json.loads((last / "trainer_state.json").read_bytes()).get("best_global_step")
    if best is None or not (folder / f"checkpoint-{best}" / "manifest.json").is_file():
        raise InputMissingError(
            f"{folder} has no best checkpoint",
            "set evaluation.loadBestModelAtEnd: true in that job, or take checkpoint: last",
        )
    return f"checkpoint-{best}"

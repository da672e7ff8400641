"""Trackers that `training.arguments.report_to` names: TensorBoard, MLflow, Weights & Biases, by their own libraries.

Where the environment names no server and no place, they write into the output, and it becomes part of the result.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlparse

TRACKERS_FOLDER = "trackers"


def prepare_trackers(names: Collection[str], output: Path) -> None:
    """Set what the environment leaves open, before transformers makes its callbacks of the names.

    Args:
        names: Of the trackers, as `report_to` has them.
        output: The output's folder on this machine.
    """
    for name, variables in _DEFAULTS.items():
        if name in names:
            folder = output / TRACKERS_FOLDER
            folder.mkdir(exist_ok=True)
            for variable, value in variables(folder).items():
                os.environ.setdefault(variable, value)


@contextmanager
def tracked() -> Iterator[None]:
    """Train; then trackers write what they hold back, however it ended: transformers lets the interpreter's end do so,
    after the result was made."""
    try:
        yield
    finally:
        if (wandb := sys.modules.get("wandb")) is not None and wandb.run is not None:
            wandb.finish()
        if (mlflow := sys.modules.get("mlflow")) is not None and mlflow.active_run() is not None:
            mlflow.end_run("KILLED")


def discard_trackers(output: Path) -> None:
    """Remove what trackers wrote of an earlier attempt, whose steps are made again from the first."""
    for folder in (output / TRACKERS_FOLDER).glob("*"):
        shutil.rmtree(folder)


def copy_trackers(output: Path, draft: Path) -> None:
    """Copy what trackers wrote into the draft of the result; links, such as to the latest run, are left out."""
    if (output / TRACKERS_FOLDER).is_dir():
        shutil.copytree(output / TRACKERS_FOLDER, draft / TRACKERS_FOLDER, ignore=_links)


def _links(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if Path(folder, name).is_symlink()]


def _tensorboard(folder: Path) -> dict[str, str]:
    return {"TENSORBOARD_LOGGING_DIR": str(folder / "tensorboard")}


def _mlflow(folder: Path) -> dict[str, str]:
    # Files need no server, and no lock of a database on a shared volume; MLflow wants a variable to allow them.
    return {"MLFLOW_TRACKING_URI": (folder / "mlflow").as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}


def _wandb(folder: Path) -> dict[str, str]:
    # It makes a folder `wandb`. Without a key it would ask a terminal for one, and fail where there is none.
    return {"WANDB_DIR": str(folder)} | ({} if _has_wandb_key() else {"WANDB_MODE": "offline"})


def _has_wandb_key() -> bool:
    """Whether `wandb login` was called on this machine, or the environment has what it needs.

    wandb has a function for that, which reads the environment no more once it has been called.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc(os.environ.get("NETRC")).authenticators(str(host)) is not None
    except (OSError, NetrcParseError):
        return False


_DEFAULTS: dict[str, Callable[[Path], dict[str, str]]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}

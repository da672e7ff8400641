"""`zerotune-inspect URI`: reads a model's `config.json` where only a pod can, and reports what shape the model has.

What it finds, `{"shape": ...}` or a failure, goes to the termination log and to stdout. Exit codes: see `errors`.
Torch-free.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NoReturn

from zerotune_trainer.config.base import Settings
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import Failure, ZerotuneError
from zerotune_trainer.failures import classify, describe
from zerotune_trainer.launching.termination import TerminationLog, TerminationMessage
from zerotune_trainer.sizing.model_config import model_shape
from zerotune_trainer.sizing.model_folder import require_weights


class Inspection(Settings):
    """What was found."""

    shape: ModelShape

    def termination_message(self) -> str:
        """This as JSON."""
        return self.model_dump_json(by_alias=True, exclude_none=True)


def main() -> NoReturn:
    """The command."""
    options = _parser().parse_args()
    sys.exit(report(options.model_uri, options.revision, options.termination_log, options.claims))


def report(uri: str, revision: str | None, termination_log: Path | None, claims: Path | None = None) -> int:
    """Report what shape the model at `uri` has, or why it has none. Returns the exit code."""
    log: TerminationLog | None = None
    outcome: Failure | Inspection
    try:
        log = TerminationLog(termination_log)
        outcome = inspect(uri, revision, claims)
    except ZerotuneError as error:
        outcome = describe(error)
    except Exception as error:  # noqa: BLE001 (whatever it is, it is reported)
        outcome = describe(classify(error))
    _report(outcome, log)
    return outcome.exit_code if isinstance(outcome, Failure) else 0


def inspect(uri: str, revision: str | None, claims: Path | None = None) -> Inspection:
    """The model at `hf://ORG/NAME`, `s3://BUCKET/PREFIX` or `file:///PATH`; of the latter also whether it has weights.

    Args:
        uri: The model's folder, or that of an adapter.
        revision: Branch, tag or commit of an `hf://` model.
        claims: Where the claims are mounted that an adapter's base may lie on.

    Raises:
        InputMissingError: there is no such model, or what a model needs is not in its folder.
        ConfigurationError: it is no language model, or it is not ours to read.
        TemporaryError: the store or the Hub does not answer.
    """
    shape = model_shape(uri, revision, _read_s3, lambda named: _mounted(named, claims))
    if uri.startswith("file://"):
        require_weights(Path(uri.removeprefix("file://")))
    return Inspection(shape=shape)


def _mounted(uri: str, claims: Path | None) -> str:
    scheme, _, rest = uri.partition("://")
    return f"file://{claims}/{rest}" if scheme == "pvc" and claims else uri


def _read_s3(uri: str) -> bytes:
    # Imported where it is needed: what storage brings takes longer to import than a file to read.
    from zerotune_trainer.storage import read_bytes

    return read_bytes(uri)


def _report(outcome: TerminationMessage, log: TerminationLog | None) -> None:
    if log is not None:
        log.write(outcome)
    sys.stdout.write(outcome.termination_message() + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("zerotune-inspect", description="Say what shape a model has.")
    parser.add_argument("model_uri", help="the model's folder: hf://ORG/NAME, s3://BUCKET/PREFIX or file:///PATH")
    parser.add_argument("--revision", help="branch, tag or commit of an hf:// model (default: main)")
    parser.add_argument("--claims", type=Path, help="where pvc://CLAIM/PATH is mounted")
    parser.add_argument("--termination-log", type=Path, help="gets the answer as JSON (default: /dev/termination-log)")
    return parser


if __name__ == "__main__":
    main()

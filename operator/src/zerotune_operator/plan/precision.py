"""The number format of a job."""

from __future__ import annotations

from typing import Literal

from zerotune_trainer.config.training import Precision as Wanted
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.sizing.workload import Precision


def resolve_precision(wanted: Wanted, accelerator: Literal["cuda", "cpu"]) -> Precision:
    """`auto` made definite: bf16 on GPUs, fp32 on CPU.

    Raises:
        ConfigurationError: fp16 on CPU, where neither gradients nor matrix products are made for it.
    """
    if wanted == "auto":
        return "bf16" if accelerator == "cuda" else "fp32"
    if wanted == "fp16" and accelerator == "cpu":
        raise ConfigurationError("precision is fp16, and the job runs on CPU", "use fp32 or bf16, or set gpusPerNode")
    return wanted

"""R01: ranks, world size and master address follow from the hostfile alone."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import cast

from zerotune_trainer.config import Launch
from zerotune_trainer.context import RankContext
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.launching.forkserver import node_variables
from zerotune_trainer.launching.worker import rank_variables
from zerotune_trainer.progress import Reporter


def test_place_of_a_rank() -> None:
    hostfile = Hostfile.parse("a slots=2\nb slots=3\n")
    context = RankContext(Path(), hostfile, hostfile.host("b"), 1, cast(Reporter, None), threading.Event())
    assert rank_variables(context, 29500) == {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "5",
        "LOCAL_WORLD_SIZE": "3",
        "LOCAL_SIZE": "3",
        "CROSS_RANK": "1",
        "CROSS_SIZE": "2",
        "MASTER_ADDR": "a",
        "MASTER_PORT": "29500",
    }


def test_what_imports_read() -> None:
    assert node_variables(Launch(cache_dir="/c", accelerator="cuda", threads_per_rank=7)) == {
        "DS_ACCELERATOR": "cuda",
        "OMP_NUM_THREADS": "7",
        "TOKENIZERS_PARALLELISM": "false",
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1",
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        "PYTHONSAFEPATH": "1",
    }
    assert node_variables(Launch(cache_dir="/c"))["CUDA_VISIBLE_DEVICES"] == ""

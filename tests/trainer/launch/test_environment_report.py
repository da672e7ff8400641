"""R08: each node reports DeepSpeed ops, NCCL version and GPU architectures at start."""

from __future__ import annotations

import os
import time

import pytest

from zerotune_trainer.config import Launch
from zerotune_trainer.counting import counted
from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.hostfile import Hostfile

pytestmark = pytest.mark.slow

HOST = Hostfile.parse("a slots=2\n").master


def test_it_says_what_torch_and_deepspeed_say_and_costs_nothing() -> None:
    import torch
    from deepspeed.git_version_info import installed_ops

    from zerotune_trainer.launching.environment import environment

    began = time.monotonic()
    report = environment(HOST, Launch(cache_dir="/c", threads_per_rank=3))
    assert time.monotonic() - began < 0.5, "nothing is compiled or probed"
    assert report.model_dump(include={"host", "deepspeed_ops", "cuda", "gpus", "cpus", "threads_per_rank"}) == {
        "host": "a",
        "deepspeed_ops": sorted(name for name, built in installed_ops.items() if built),
        "cuda": torch.version.cuda,
        "gpus": [],
        "cpus": len(os.sched_getaffinity(0)),
        "threads_per_rank": 3,
    }
    if torch.version.cuda:
        assert report.nccl == ".".join(str(part) for part in torch.cuda.nccl.version())
        assert all(name.startswith(("sm_", "compute_")) for name in report.torch_architectures)
        assert report.torch_architectures
    assert not torch.cuda.is_initialized()


def test_a_host_with_fewer_gpus_than_slots() -> None:
    import torch

    from zerotune_trainer.launching.environment import check_devices

    count = torch.cuda.device_count()
    host = Hostfile.parse(f"a slots={count + 1}\n").master
    with pytest.raises(ConfigurationError) as raised:
        check_devices(host, Launch(cache_dir="/c", accelerator="cuda"))
    assert (
        raised.value.message == f"the hostfile gives a {counted(count + 1, 'slot')}, but it has {counted(count, 'GPU')}"
    )
    check_devices(host, Launch(cache_dir="/c", accelerator="cpu"))

"""Instance types: GPUs, memory, vCPUs, EFA. Pure.

Source: the specifications of EC2 instance types (https://docs.aws.amazon.com/ec2/latest/instancetypes/ac.html for GPUs,
gp.html, co.html and mo.html for the others): `ml.X` of SageMaker is `X` of EC2. An `Nxlarge` has 4 N vCPUs. Types whose
GPUs the trainer image has no kernels for (P2, P3: sm_70 and below) or of another architecture (GB200) are not listed.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from zerotune_trainer.sizing.devices import memory_mib
from zerotune_trainer.sizing.workload import gib

_GIB, _MIB = 1 << 30, 1 << 20
_FOR_RANKS = 0.95
"""Share of an instance's memory that ranks may fill: the rest is the kernel's and SageMaker's agents'."""
_GIB_PER_XLARGE = {"m": 16, "c": 8, "r": 32}
_WITHOUT_GPUS = re.compile(r"^(?:(m)[5678]i?|(c)[5678]i?|(r)[5678]i?)$")


class InstanceType(NamedTuple):
    """What an instance has."""

    gpus: int
    gpu_bytes: int | None
    """Memory of one GPU."""
    node_bytes: int
    """Host memory that ranks may fill."""
    vcpus: int
    efa: bool
    """Whether it has an Elastic Fabric Adapter."""
    gpu: str = ""
    """The GPU's name."""


class _Gpus(NamedTuple):
    name: str
    sizes: dict[int, tuple[int, int]]
    """By N of `Nxlarge`: GPUs, and GiB of host memory."""
    efa_from: int
    """The smallest N with an Elastic Fabric Adapter."""


_SMALL_G = {1: (1, 16), 2: (1, 32), 4: (1, 64), 8: (1, 128), 16: (1, 256), 12: (4, 192)}
_LARGE_G = _SMALL_G | {24: (4, 384), 48: (8, 768)}
_WITH_GPUS = {
    "g4dn": _Gpus("NVIDIA T4", _SMALL_G, 8),
    "g5": _Gpus("NVIDIA A10G", _LARGE_G, 8),
    "g6": _Gpus("NVIDIA L4", _LARGE_G, 8),
    "g6e": _Gpus("NVIDIA L40S", {size: (gpus, 2 * gib) for size, (gpus, gib) in _LARGE_G.items()}, 8),
    "p4d": _Gpus("NVIDIA A100 40GB", {24: (8, 1152)}, 24),
    "p4de": _Gpus("NVIDIA A100 80GB", {24: (8, 1152)}, 24),
    "p5": _Gpus("NVIDIA H100 80GB", {4: (1, 256), 48: (8, 2048)}, 4),
    "p5e": _Gpus("NVIDIA H200", {48: (8, 2048)}, 48),
    "p5en": _Gpus("NVIDIA H200", {48: (8, 2048)}, 48),
    "p6-b200": _Gpus("NVIDIA B200", {48: (8, 2048)}, 48),
}


def instance_type(name: str) -> InstanceType | None:
    """What an instance of a type has, by the type's name such as `ml.g5.12xlarge`; None for one that is not known."""
    _, family, size = name.split(".")
    if family in _WITH_GPUS:
        return _with_gpus(_WITH_GPUS[family], _xlarges(size))
    found = _WITHOUT_GPUS.match(family)
    count = 0.5 if size == "large" else _xlarges(size)
    if not found or not count:
        return None
    host = int(_GIB_PER_XLARGE[found[1] or found[2] or found[3]] * count * _GIB * _FOR_RANKS)
    return InstanceType(0, None, host, int(4 * count), efa=False)


def gpu_types() -> list[str]:
    """The names of all types with GPUs that are known."""
    return [
        f"ml.{family}.{'' if size == 1 else size}xlarge"
        for family, gpus in _WITH_GPUS.items()
        for size in sorted(gpus.sizes)
    ]


def describe(name: str) -> str:
    """An instance of a type as text."""
    known = instance_type(name)
    if known is None:
        return (
            "zerotune has no figures of this type: topology.memory and, with GPUs, topology.accelerator.memory "
            "say what it has"
        )
    gpus = f"{known.gpus} x {known.gpu} ({gib(known.gpu_bytes)} each), " if known.gpu_bytes else ""
    efa = "EFA" if known.efa else "no EFA"
    return f"{gpus}{known.vcpus} vCPUs, {gib(known.node_bytes)} for ranks, {efa}"


def _with_gpus(family: _Gpus, size: int) -> InstanceType | None:
    if size not in family.sizes:
        return None
    (gpus, gib), mib = family.sizes[size], memory_mib(family.name)
    assert mib is not None, "every GPU here is one that memory is planned for"
    host = int(gib * _GIB * _FOR_RANKS)
    return InstanceType(gpus, mib * _MIB, host, 4 * size, size >= family.efa_from, family.name)


def _xlarges(size: str) -> int:
    """N of `Nxlarge`, 1 of `xlarge`; 0 of another size."""
    found = re.fullmatch(r"(\d*)xlarge", size)
    return int(found[1] or 1) if found else 0

"""GPUs by their name: memory, and what they compute at most. Torch-free.

Peaks are those of dense bf16 matrix products (fp16 where there is no bf16), from the makers' data sheets.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple


class _Gpu(NamedTuple):
    memory_mib: int | None
    """As the driver reports it; None where products of several sizes have the name, which says the size then."""
    teraflops: float | None


_GPUS = {
    "t4": _Gpu(15360, 65),
    "v100": _Gpu(None, 125),
    "a10": _Gpu(23028, 125),
    "a10g": _Gpu(23028, 70),
    "a30": _Gpu(24576, 165),
    "a40": _Gpu(46068, 149.7),
    "a6000": _Gpu(49140, 154.8),
    "a100": _Gpu(None, 312),
    "l4": _Gpu(23034, 121),
    "l40": _Gpu(46068, 181),
    "l40s": _Gpu(46068, 362),
    "rtx 3090": _Gpu(24576, 71),
    "rtx 4090": _Gpu(24564, 165.2),
    "rtx 5090": _Gpu(32607, 209.5),
    "6000 ada": _Gpu(49140, 364.2),
    "pro 6000": _Gpu(97887, None),
    "h100": _Gpu(None, 989.4),
    "h100 pcie": _Gpu(81559, 756),
    "h100 nvl": _Gpu(95830, 835),
    "h20": _Gpu(97871, 148),
    "h200": _Gpu(143771, 989.4),
    "gh200": _Gpu(97871, 989.4),
    "b200": _Gpu(183359, 2250),
    "gb200": _Gpu(189471, 2500),
    "b300": _Gpu(275040, 2250),
}


def memory_mib(name: str) -> int | None:
    """Memory of a GPU by its name, as the driver or a node's label writes it; None for one that is not known."""
    found = _find(name)
    size = re.search(r"mig-\d+g\.(\d+)gb", name.lower()) or re.search(r"(\d+)gb", name.lower())
    known = found.memory_mib if found else None
    if size and (known is None or "mig-" in name.lower()):
        return int(size[1]) * 1024
    return known


def peak_flops(name: str) -> float | None:
    """Floating-point operations a second that a GPU makes at most; None for one that is not known, and for a part."""
    found = None if "mig" in name.lower() else _find(name)
    return found.teraflops * 1e12 if found and found.teraflops else None


def _find(name: str) -> _Gpu | None:
    tokens = re.split(r"[^a-z0-9.]+", name.lower())
    # Two parts of the name distinguish more than one: an H100-NVL has more memory than an H100.
    pairs = [" ".join(pair) for pair in pairwise(tokens)]
    return next((_GPUS[token] for token in (*pairs, *tokens) if token in _GPUS), None)

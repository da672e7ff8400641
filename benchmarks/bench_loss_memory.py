"""Memory and CPU seconds of a loss and its gradients on CPU, against those of the loss from all logits.

    cpt, sft           the sum over tokens
    dpo, orpo, kto     log-probabilities by token

Memory is the most that torch's allocator holds at once beyond weights and hidden states. The gradient of the head is in
it, on both sides. Nothing is printed unless loss and gradients agree.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch

from zerotune_devtools.benchmarks.loss_memory import Head, log_probabilities, make_head, peak_bytes, plain, tiled
from zerotune_devtools.benchmarks.pairs import Comparison, report

MIB = 2**20


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--tokens", type=int, default=1024, help="tokens of a micro batch (default: %(default)s)")
    options.add_argument("--hidden", type=int, default=64, help="hidden size (default: %(default)s)")
    options.add_argument("--vocabulary", type=int, default=151_936, help="tokens that there are (default: %(default)s)")
    options.add_argument("--pairs", type=int, default=3, help="measured pairs (default: %(default)s)")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    head = make_head(chosen.tokens, chosen.hidden, chosen.vocabulary)
    report([each for loss in (tiled, log_probabilities) for each in compare(loss, head, chosen.pairs)], None)


def compare(loss: Callable[[Head], torch.Tensor], head: Head, pairs: int) -> list[Comparison]:
    """A loss against the one from all logits."""
    require_equal(loss, head)
    memory = [[peak_bytes(each, head) / MIB] for each in (loss, plain)]
    seconds = list(zip(*((cpu_seconds(loss, head), cpu_seconds(plain, head)) for _ in range(pairs)), strict=True))
    return [
        Comparison(f"peak memory, {loss.__name__}", "MiB", *memory),
        Comparison(f"CPU, {loss.__name__}", "s", *map(list, seconds)),
    ]


def require_equal(loss: Callable[[Head], torch.Tensor], head: Head) -> None:
    """End the benchmark where loss or gradients differ."""
    (mine, *ours), (other, *theirs) = (results(each, head) for each in (loss, plain))
    if not all(
        torch.allclose(a, b, rtol=1e-5, atol=1e-5) for a, b in zip((mine, *ours), (other, *theirs), strict=True)
    ):
        sys.exit(f"{loss.__name__} gives another loss or other gradients than all logits do")


def results(loss: Callable[[Head], torch.Tensor], head: Head) -> tuple[torch.Tensor, ...]:
    """Loss by token, and gradients of hidden states and head."""
    weight = head.model.lm_head.weight
    weight.grad = head.hidden.grad = None
    mean = loss(head) / len(head.targets)
    mean.backward()
    assert head.hidden.grad is not None
    assert weight.grad is not None
    return mean.detach(), head.hidden.grad, weight.grad


def cpu_seconds(loss: Callable[[Head], torch.Tensor], head: Head) -> float:
    """CPU seconds of a forward and a backward pass."""
    began = time.process_time()
    results(loss, head)
    return time.process_time() - began


if __name__ == "__main__":
    main()

"""Forward passes of ranks that hold a model together: all make the same number of them, and stop at the same one.

A forward pass of a partitioned model is a collective: each layer is gathered from all ranks. Ranks that generate
different texts need different numbers of passes. So every pass begins with an exchange of two numbers, and a rank that
has finished takes part in the passes of the others. That holds for whatever decoding calls the model, and lets a rank
that was asked to stop stop the others before the next token.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from zerotune_trainer.errors import StoppedError
from zerotune_trainer.inference.engine import OnToken

Mode = Callable[[], AbstractContextManager[Any]]
"""Makes a context in which nothing has a gradient: `torch.inference_mode`, or `torch.no_grad` while a model is trained,
which may keep no tensors of inference mode."""


class Lockstep:
    """Keeps the ranks of a process group together.

    Args:
        model: Called by each rank, once a token.
        device: Where the exchange takes place.
        token: A token of the vocabulary, for passes that are made for others.
        group: The ranks; None: all of them.
        mode: How passes that are made for others are made without gradients.
    """

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        token: int,
        group: dist.ProcessGroup | None = None,
        mode: Mode = torch.inference_mode,
    ) -> None:
        self._model, self._device, self._group, self._mode = model, device, group, mode
        self._token = torch.tensor([[token]], device=device)
        self._on_token: OnToken = nothing
        self._follows = False
        # First of all: DeepSpeed has a hook that exchanges something, too, and both must come in the same order.
        self._hook = model.register_forward_pre_hook(self._before_pass, prepend=True)

    def close(self) -> None:
        """Leave the model as it was."""
        self._hook.remove()

    def begin(self, on_token: OnToken) -> None:
        """Begin a round. `on_token` is called for every pass."""
        self._on_token = on_token

    def follow(self) -> None:
        """Take part in the passes of the others until all have finished. Every rank calls this at the end of a round.

        Raises:
            StoppedError: a rank was asked to stop.
        """
        self._follows = True
        try:
            with self._mode():
                while self._exchange(is_active=False):
                    self._model(input_ids=self._token, use_cache=False)
        finally:
            self._follows = False

    def _before_pass(self, *_: Any) -> None:
        if not self._follows:
            self._exchange(is_active=True)

    def _exchange(self, *, is_active: bool) -> bool:
        """Whether any rank still generates.

        Raises:
            StoppedError: a rank was asked to stop; all raise it before the same pass.
        """
        stop: StoppedError | None = None
        try:
            self._on_token()
        except StoppedError as error:
            stop = error
        counts = torch.tensor([is_active, stop is not None], dtype=torch.int32, device=self._device)
        dist.all_reduce(counts, group=self._group)
        active, stopped = counts.tolist()
        if stopped:
            raise stop or StoppedError("another rank of the replica was asked to stop: whole batches are kept")
        return bool(active)


def nothing() -> None:
    """What a decoding loop calls for a token where the engine's `Lockstep` calls `on_token`."""

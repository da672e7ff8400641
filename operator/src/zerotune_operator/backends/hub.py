"""The Hugging Face Hub, as all jobs of an operator ask it for the shapes of models."""

from __future__ import annotations

import asyncio
import logging

from zerotune_operator.backends.model_shape import model_shape
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import TemporaryError, ZerotuneError

_SILENCE_SECONDS = 300

_logger = logging.getLogger(__name__)


class Hub:
    """Shapes of models on the Hugging Face Hub, asked for once each.

    Where it does not answer about a model, nobody waits for that answer again for some time. Others are asked about: it
    may be a single model, of one tenant, that the Hub does not answer about.

    Args:
        patience: Seconds that an answer may take: a job waits for it, or the API server that asks the webhook.
    """

    def __init__(self, patience: float = 3.0) -> None:
        self._patience = patience
        self._asked: dict[tuple[str, str | None], asyncio.Task[ModelShape | ZerotuneError]] = {}
        self._silent_until: dict[tuple[str, str | None], float] = {}

    def forget(self, uri: str, revision: str | None) -> None:
        """Ask again next time."""
        self._asked.pop((uri, revision), None)

    async def shape(self, uri: str, revision: str | None) -> ModelShape | None:
        """The shape of an `hf://` model that anybody may read; None where the Hub has yet to answer, or will not.

        Raises:
            InputMissingError: the Hub has no such model, or wants a token.
            ConfigurationError: its config.json is not one of a language model.
        """
        model, now = (uri, revision), asyncio.get_running_loop().time()
        if model not in self._asked:
            self._silent_until = {each: until for each, until in self._silent_until.items() if now < until}
            if model in self._silent_until:
                return None
            self._asked[model] = asyncio.create_task(asyncio.to_thread(_answer, uri, revision))
        try:
            found = await asyncio.wait_for(asyncio.shield(self._asked[model]), self._patience)
        except TimeoutError:
            found = TemporaryError(f"no answer for {self._patience:g} s")
        if isinstance(found, ModelShape):
            return found
        self.forget(uri, revision)  # Another time the answer may be another.
        if not isinstance(found, TemporaryError):
            raise found
        self._silent_until[model] = now + _SILENCE_SECONDS
        _logger.warning("%s: %s; for %ds pods ask the Hub for it instead", uri, found.message, _SILENCE_SECONDS)
        return None


def _answer(uri: str, revision: str | None) -> ModelShape | ZerotuneError:
    """What the Hub answers, also when nobody waits for it any more."""
    try:
        return model_shape(uri, revision)
    except ZerotuneError as error:
        return error

"""What the launchers of jobs report at `/progress`: the newest answers, which a poller keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime

from zerotune_operator.backends.kubernetes import pod_state
from zerotune_operator.backends.kubernetes.cache import Key
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.poller import Poller, Target
from zerotune_operator.backends.kubernetes.progress_client import ProgressClient
from zerotune_operator.backends.reports import read_progress
from zerotune_trainer.progress import NodeProgress

_STUCK_SECONDS = 60
"""For how long a launcher may be silent, or report the same, before the others of its job are polled."""
_ANSWER_BYTES, _PODS_AN_ANSWER = 64 * 1024, 8
"""An answer may have so many bytes for every so many pods of its job: it reports where each rank runs, in about 100."""


class Launchers:
    """The launchers of all jobs.

    Args:
        interval: Seconds between two requests to a launcher that answers.
        answered: Called with a job when one of its launchers has answered.
    """

    def __init__(self, interval: float = 10.0, answered: Callable[[Key], None] = lambda _: None) -> None:
        self._client = ProgressClient()
        self._poller = Poller(self.ask, interval, answered)

    def known(
        self, job: Key, pods: tuple[Object, ...], port: int, now: datetime, nodes: int | None = None
    ) -> dict[str, NodeProgress]:
        """The newest answer of the first node, by the name of its pod; of every node where that one does not answer or
        makes no steps for long. No request is waited for: they go on being polled as long as this is called.

        Nobody is polled as long as a pod has yet to start: until then the others wait for its name.

        Args:
            job: The job.
            pods: Those of its attempt.
            port: Where launchers answer.
            now: The time.
            nodes: Nodes of a replica, where there are several: each has a first node.
        """
        if nodes is None:
            return self._known_of_world(job, pods, port, now, 0)
        worlds: dict[int, list[Object]] = {}
        for pod in pods:
            worlds.setdefault((pod_state.index(pod) or 0) // nodes, []).append(pod)
        answers: dict[str, NodeProgress] = {}
        for number, mine in worlds.items():
            answers |= self._known_of_world(job, tuple(mine), port, now, number * nodes)
        return answers

    def _known_of_world(
        self, job: Key, pods: tuple[Object, ...], port: int, now: datetime, first_index: int
    ) -> dict[str, NodeProgress]:
        if any(not pod_state.is_running(pod) and not pod_state.has_ended(pod) for pod in pods):
            return {}
        limit = _ANSWER_BYTES * -(-len(pods) // _PODS_AN_ANSWER)
        running = [pod for pod in pods if pod_state.is_running(pod) and pod["status"].get("podIP")]
        targets = {pod_state.name(pod): _target(job, pod, port, limit) for pod in running}
        first = [pod for pod in running if pod_state.index(pod) == first_index]
        answers = self._answers(targets[pod_state.name(pod)] for pod in first)
        if first and (all(map(_gets_on, answers.values())) if answers else self._may_answer(first[0], targets, now)):
            return answers
        return self._answers(targets.values())

    async def ask(self, target: Target) -> NodeProgress | None:
        """The answer of one launcher; None where it gives none, or what no launcher sends."""
        body = await self._client.fetch(target.address, target.port, target.limit)
        return None if body is None else read_progress(body)

    async def close(self) -> None:
        """Stop polling."""
        await self._poller.close()
        await self._client.close()

    def _answers(self, targets: Iterable[Target]) -> dict[str, NodeProgress]:
        answers = {target.pod: self._poller.want(target) for target in targets}
        return {pod: answer for pod, answer in answers.items() if answer is not None}

    def _may_answer(self, pod: Object, targets: dict[str, Target], now: datetime) -> bool:
        """Whether a launcher that has not answered may be about to: it does within seconds of its start."""
        seconds = pod_state.seconds_running(pod, now)
        has_just_started = seconds is not None and seconds < _STUCK_SECONDS
        return has_just_started or not self._poller.has_asked(targets[pod_state.name(pod)])


def _target(job: Key, pod: Object, port: int, limit: int) -> Target:
    return Target(job, pod_state.name(pod), pod["status"]["podIP"], port, limit)


def _gets_on(answer: NodeProgress) -> bool:
    return all(rank.step_age_seconds < _STUCK_SECONDS for rank in answer.ranks)

"""The last lines that the hosts of a training job wrote, as CloudWatch Logs has them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.reports import text
from zerotune_operator.backends.sagemaker.client import SageMakerClient
from zerotune_operator.backends.sagemaker.layout import hosts_of, job_name, sagemaker_of
from zerotune_operator.lifecycle.attempts import current_attempt
from zerotune_trainer.errors import InputMissingError, ZerotuneError

_LINES, _LAST_LINES = 200, 20
_logger = logging.getLogger(__name__)


def last_lines(job: Job, status: JobStatus, attempt: int | None, node: int | None) -> Iterator[str]:
    """The last lines of each host, oldest first; with several hosts, each line after its host's name.

    Args:
        job: The job.
        status: Its status.
        attempt: Number of the attempt; None: the newest.
        node: Number of the host, from 0; None: all.

    Raises:
        InputMissingError: there is no such host.
        ConfigurationError, TemporaryError: AWS does not answer.
    """
    hosts = hosts_of(job)
    if node is not None and node >= len(hosts):
        raise InputMissingError(f"the job has no node {node} (it has {len(hosts)})", "nodes count from 0")
    newest = status.attempts[-1].number if status.attempts else current_attempt(status)
    name = job_name(job, newest if attempt is None else attempt)
    client, wanted = SageMakerClient(sagemaker_of(job).region), hosts if node is None else hosts[node : node + 1]
    for host in wanted:
        prefix = f"[{host}] " if len(wanted) > 1 else ""
        yield from (prefix + line for line in client.last_log_lines(name, host, _LINES))


def last_words(client: SageMakerClient, name: str, hosts: Sequence[str]) -> str:
    """The last line that is not empty of the first host of a training job that wrote any; empty where none did, or
    where the log cannot be read. It blocks.
    """
    try:
        for host in hosts:
            lines = [line.strip() for line in client.last_log_lines(name, host, _LAST_LINES)]
            if found := next((line for line in reversed(lines) if line), ""):
                return text(found)
    except ZerotuneError as error:
        _logger.warning("%s", error)
    return ""

"""The local backend: `zerotune_operator.backends.base.Backend` with processes of this machine."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.origins import origins, starting_from
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.base import Inputs
from zerotune_operator.backends.local.home import Home
from zerotune_operator.backends.local.job_folder import JobFolder
from zerotune_operator.backends.local.layout import find_inputs, gpus_for, output_uri, place
from zerotune_operator.backends.local.output import complete_output
from zerotune_operator.backends.local.processes import RunningNode
from zerotune_operator.backends.local.render import LocalAttempt, render
from zerotune_operator.backends.local.replicas import LostReplicas
from zerotune_operator.backends.reports import read_ending
from zerotune_operator.lifecycle.attempts import has_made_steps
from zerotune_operator.lifecycle.deadlines import has_failed
from zerotune_operator.lifecycle.observation import AttemptRef, Observation
from zerotune_operator.plan import Plan, identity_of, plan_job
from zerotune_trainer.config import RENDEZVOUS_FILE
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.config.training import Zero
from zerotune_trainer.errors import InputMissingError, TemporaryError
from zerotune_trainer.progress import Progress

_GRACE_SECONDS = 600.0
"""How long nodes may take to save and end after they were asked to: as long as pods."""
_GRACE_AFTER_FAILURE_SECONDS = 60.0
"""How long where one of them has failed: the others cannot save without it."""


class LocalBackend:
    """Runs one job, an attempt at a time.

    Args:
        job: The job.
        folder: Its folder, locked.
        home: Where the jobs of this machine are.
        lock: The file descriptor of `folder.locked()`: the nodes keep it open as long as they live.

    Raises:
        ConfigurationError: the machine has fewer GPUs than the job asks for.
    """

    def __init__(self, job: Job, folder: JobFolder, home: Home, lock: int) -> None:
        self._job, self._folder, self._home, self._lock = job, folder, home, lock
        self._gpus = gpus_for(job)
        self._launcher = str(Path(sys.executable).with_name("zerotune-launch"))
        self._applied: LocalAttempt | None = None
        self._running: dict[str, RunningNode] = {}
        self._lost = LostReplicas(0, self._start)
        self._has_failed = False
        self._stopped_at: float | None = None
        """When the nodes were asked to end, by `time.monotonic`."""

    async def find_inputs(self, status: JobStatus) -> Inputs:
        """The model and the outputs of other jobs, as they are at this moment.

        Raises:
            ConfigurationError, InputMissingError: there is no such input.
            TemporaryError: its store does not answer, or the job that makes it still runs.
        """
        known = _known_checkpoint(self._job, status)
        return await asyncio.to_thread(find_inputs, self._job, self._home, known)

    def plan(self, inputs: Inputs, attempt: int) -> Plan:
        """The plan of an attempt, with ports that are free at this moment.

        Once steps were made, the ZeRO stage is that of the attempt that made them: no other can load its checkpoints.

        Raises:
            ConfigurationError: the job cannot run here.
        """
        identity = identity_of(self._job, attempt)
        job = starting_from(_with_known_zero(self._job, self._folder.read_status()), inputs.data_uris)
        layout = place(job, self._folder, self._home, self._gpus, inputs.model_uri)
        return plan_job(job, inputs.shape, layout, identity, inputs.reference, origins(self._job))

    def render(self, plan: Plan) -> LocalAttempt:
        """The files and processes of the attempt that `plan` is for."""
        folder = self._folder.attempt(plan.config.job.attempt)
        return render(plan, folder, self._launcher, [gpu.device for gpu in self._gpus])

    async def has_started(self, attempt: int) -> bool:
        """Whether this process has started the nodes of an attempt: they do not outlive it."""
        return self._applied is not None and self._applied.number == attempt

    async def apply(self, rendered: LocalAttempt) -> None:
        """Write the folder and start the nodes that are not started.

        Raises:
            TemporaryError: the folder cannot be written.
        """
        if await self.has_started(rendered.number):
            return
        await self._remove_offloaded()
        try:
            _write(rendered)
        except OSError as error:
            raise TemporaryError(
                f"{rendered.folder} cannot be written: {error.strerror}", "free some space there, then run again"
            ) from error
        self._applied, self._has_failed, self._stopped_at = rendered, False, None
        self._running = {}
        self._lost = LostReplicas(self._job.spec.run_policy.max_restarts, self._start)
        self._start([node.host for node in rendered.nodes])

    def _start(self, hosts: Sequence[str]) -> None:
        assert self._applied is not None, "an attempt was applied"
        for node in self._applied.nodes:
            if node.host in hosts:
                node.termination_message.unlink(missing_ok=True)
                self._running[node.host] = RunningNode(node, self._applied.progress_port, self._lock)

    def attempt_ref(self, attempt: int, config_digest: str, _: Sequence[str] = ()) -> AttemptRef:
        """What is observed of the attempt that was applied last, whose processes are this one's."""
        applied = self._applied
        assert applied is not None and applied.number == attempt, "no other attempt of this job runs on this machine"
        return AttemptRef(
            number=attempt,
            hosts=tuple(node.host for node in applied.nodes),
            job_uid=self._job.metadata.uid,
            config_digest=config_digest,
            progress_port=applied.progress_port,
            output_uri=output_uri(self._job, self._folder),
        )

    async def observe(self, attempt: AttemptRef) -> Observation:
        """What the nodes do; once all have ended, also whether the output is complete."""
        nodes = await asyncio.gather(*(asyncio.to_thread(self._running[host].observe) for host in attempt.hosts))
        if attempt.replicas > 1:
            nodes = list(self._lost.seen(nodes, attempt.replicas, stopping=self._stopped_at is not None))
        seen = Observation(attempt.number, tuple(nodes), replicas=attempt.replicas)
        self._has_failed = has_failed(seen)
        if not seen.all_ended:
            return seen
        await self._remove_offloaded()
        whose = (attempt.output_uri, attempt.job_uid, attempt.config_digest)
        output = await asyncio.to_thread(complete_output, *whose)
        return replace(seen, output=output, final=self._final_progress() if output else None)

    def _final_progress(self) -> Progress | None:
        """The last figures of a complete result: a job may end between two polls of `/progress`."""
        assert self._applied is not None, "an attempt was applied"
        messages = [node.termination_message for node in self._applied.nodes]
        endings = (read_ending(path.read_text(errors="replace")) for path in messages if path.is_file())
        return next((each.completion.progress for each in endings if each.completion is not None), None)

    async def stop(self, _: AttemptRef) -> None:
        """Send SIGTERM to every launcher, which has its ranks save and ends; kill those that take too long."""
        now = time.monotonic()
        if self._stopped_at is None:
            self._stopped_at = now
            for node in self._running.values():
                node.terminate()
        elif now - self._stopped_at >= (_GRACE_AFTER_FAILURE_SECONDS if self._has_failed else _GRACE_SECONDS):
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL to every process of every node; none is started again."""
        self._stopped_at = self._stopped_at or time.monotonic()
        for node in self._running.values():
            node.signal(signal.SIGKILL)

    async def close(self, _: AttemptRef, __: Observation) -> None:
        """Do nothing: no node is started in the place of one that has ended."""

    async def restore(self, _: AttemptRef, __: Observation, ___: Callable[[], Plan]) -> None:
        """Do nothing: the nodes read the folder of their attempt when they start, and need nothing else."""

    async def clean_up(self, _: int) -> None:
        """Do nothing: the folders of all attempts stay for a person to read."""

    async def finalize(self, _: JobStatus) -> None:
        """Have the nodes that still run save and end."""
        for node in self._running.values():
            node.release()

    async def _remove_offloaded(self) -> None:
        """Delete the parameters that nodes have left on disk: one that was killed, with its runner or not, left all."""
        await asyncio.to_thread(shutil.rmtree, self._folder.offloaded, ignore_errors=True)


def _known_checkpoint(job: Job, status: JobStatus) -> tuple[str, ModelShape] | None:
    """The checkpoint that a job began with, unless the last attempt did not find it."""
    if job.spec.model.checkpoint is None or status.model is None or status.model_uri is None:
        return None
    missed = bool(status.attempts) and status.attempts[-1].failure_class == InputMissingError.failure_class
    return None if missed else (status.model_uri, status.model)


def _with_known_zero(job: Job, status: JobStatus) -> Job:
    """A FineTuneJob that has made steps, with the ZeRO stage and offloading of the plan of those steps."""
    known = status.plan
    if not isinstance(job, FineTuneJob) or known is None or not has_made_steps(status):
        return job
    zero = Zero.model_validate(
        {"stage": known.zero_stage, "offloadOptimizer": known.offload_optimizer, "offloadParam": known.offload_param}
    )
    return job.model_copy(update={"spec": job.spec.model_copy(update={"zero": zero})})


def _write(rendered: LocalAttempt) -> None:
    rendered.folder.mkdir(mode=0o700, exist_ok=True)
    for name, text in rendered.files.items():
        (rendered.folder / name).write_text(text, encoding="utf-8")
    secret = rendered.folder / RENDEZVOUS_FILE
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(32))

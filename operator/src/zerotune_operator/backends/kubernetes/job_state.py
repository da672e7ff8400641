"""What the batch/v1 Job of an attempt shows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from zerotune_operator.backends.kubernetes.objects import CONFIG_DIGEST_ANNOTATION, Object, some, trim_metadata

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Names the queue that decides when a Job is no longer suspended."""


@dataclass(frozen=True)
class JobState:
    """A Job, or that there is none."""

    job: Object | None

    @property
    def queued(self) -> bool:
        """Whether a queue holds it back."""
        return self._is_there and self._suspended and self._has_queue

    def is_of_earlier_run(self, pod: Object) -> bool:
        """Whether a pod that was deleted is from before the queue held the Job back: another is to take its place.

        A Job that is let go on has a new start time, a moment after it is no longer suspended.
        """
        if not self._is_there or not self._has_queue:
            return False
        started = self._job.get("status", {}).get("startTime") or ""
        return self._suspended or self._has("Suspended") or started > pod["metadata"]["creationTimestamp"]

    @property
    def is_to_run(self) -> bool:
        """Whether its pods are to be there: it is not deleted, not held back, not over, and nobody stopped it."""
        return self._is_there and not self._suspended and not self._has_deadline and not self._over

    @property
    def is_stopped(self) -> bool:
        """Whether somebody deleted it, suspended it, or gave it a deadline; not where a queue holds it back."""
        return not self._is_there or self._has_deadline or (self._suspended and not self.queued)

    @property
    def is_closed(self) -> bool:
        """Whether it makes no pods any more, whatever anybody does: it is deleted, or has come to its end."""
        return not self._is_there or self._over

    @property
    def is_suspended(self) -> bool:
        """Whether it makes no pods until somebody lets it go on, or has yet to begin."""
        return self._is_there and (self._suspended or self._job.get("status", {}).get("startTime") is None)

    @property
    def has_deadline(self) -> bool:
        """Whether it has a deadline, as the operator gives one that is to end."""
        return self._is_there and self._has_deadline

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._job["metadata"]["name"])

    def seconds_ending(self, now: datetime) -> float:
        """For how long it has been about to end, as the Job controller sees it; 0 where it is not."""
        times = [found["lastTransitionTime"] for found in self._conditions("FailureTarget", "SuccessCriteriaMet")]
        return max(((now - datetime.fromisoformat(time)).total_seconds() for time in times), default=0.0)

    def is_over(self, index: int) -> bool:
        """Whether an index, which has no pod, will get none any more."""
        return self.is_stopped or self._over or index in self._indexes("failedIndexes")

    def succeeded(self, index: int) -> bool:
        """Whether the pod of an index ended with exit code 0."""
        return self._is_there and index in self._indexes("completedIndexes")

    @property
    def _job(self) -> Object:
        assert self.job is not None
        return self.job

    @property
    def _is_there(self) -> bool:
        return self.job is not None and "deletionTimestamp" not in self.job["metadata"]

    @property
    def _has_queue(self) -> bool:
        return QUEUE_LABEL in self._job["metadata"].get("labels", {})

    @property
    def _suspended(self) -> bool:
        return bool(self._job["spec"].get("suspend"))

    @property
    def _has_deadline(self) -> bool:
        # The operator gives a Job a deadline only to end it.
        return self._job["spec"].get("activeDeadlineSeconds") is not None

    @property
    def _over(self) -> bool:
        return self._has("Complete") or self._has("Failed")

    def _has(self, condition: str) -> bool:
        return bool(self._conditions(condition))

    def _conditions(self, *types: str) -> list[Object]:
        """Those of these types that are true."""
        conditions = self._job.get("status", {}).get("conditions", ()) if self._is_there else ()
        return [found for found in conditions if found["type"] in types and found["status"] == "True"]

    def _indexes(self, field: str) -> set[int]:
        """Indexes as the Job writes them: `0,3-5`."""
        parts = [part.partition("-") for part in self._job.get("status", {}).get(field, "").split(",") if part]
        return {index for first, _, last in parts for index in range(int(first), int(last or first) + 1)}


def trim_job(job: Object) -> Object:
    """The parts of a Job that show what became of it, and which one it is."""
    annotations = some(job["metadata"].get("annotations", {}), (CONFIG_DIGEST_ANNOTATION,))
    subdomain = some(job["spec"].get("template", {}).get("spec", {}), ("subdomain",))
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": trim_metadata(job["metadata"]) | {"annotations": annotations},
        "spec": some(job["spec"], ("suspend", "activeDeadlineSeconds", "completions"))
        | {"template": {"spec": subdomain}},
        "status": job.get("status", {}),
    }


def job_facts(job: Object) -> object:
    """What a Job shows of how an attempt fares; equal for two versions of it that show the same."""
    status = job.get("status", {})
    ends = [(found["type"], found["status"]) for found in status.get("conditions", ())]
    indexes = (status.get("failedIndexes"), status.get("completedIndexes"))
    return ("deletionTimestamp" in job["metadata"], job["spec"], ends, indexes)

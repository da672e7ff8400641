"""The admission webhook: reject at `kubectl apply` what otherwise only the status would report. An option: without it
the same checks are made when the job is planned.

The API server itself checks the schema and its CEL rules. What is left takes the plan: batch arithmetic, what a cluster
does not support, and, where the shape of the model can be had in time, whether it fits into memory.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import check_update, parse_job
from zerotune_operator.api.status import JobStatus
from zerotune_operator.backends.check import ANY_MODEL, check
from zerotune_operator.backends.hub import Hub
from zerotune_operator.backends.kubernetes.installation import Installation
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.off_loop import off_loop
from zerotune_operator.backends.registry import BACKENDS, operator_target
from zerotune_operator.lifecycle.attempts import FINAL
from zerotune_operator.lifecycle.job_events import changed_after_end
from zerotune_operator.plan import plan_job
from zerotune_trainer.config import JobIdentity
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ZerotuneError


def build_app(installation: Installation) -> web.Application:
    """The server: `POST /validate/finetunejobs` and `/validate/inferencejobs` take an AdmissionReview."""
    hub = Hub()

    async def validate(request: web.Request) -> web.Response:
        return web.json_response(await review(await request.json(), hub, installation))

    app = web.Application(client_max_size=4 << 20)
    app.add_routes([web.post("/validate/finetunejobs", validate), web.post("/validate/inferencejobs", validate)])
    return app


async def review(asked: Object, hub: Hub, installation: Installation) -> Object:
    """An AdmissionReview (admission.k8s.io/v1) with its answer."""
    request = asked["request"]
    try:
        notes = await _checked(request["object"], request.get("oldObject"), hub, installation)
        answer: dict[str, Any] = {"allowed": True, "warnings": list(notes)}
    except ZerotuneError as error:
        hint = f": {error.hint}" if error.hint else ""
        status = {"code": 422, "reason": "Invalid", "message": f"{error.message}{hint}"}
        answer = {"allowed": False, "status": status}
    return {"apiVersion": asked["apiVersion"], "kind": asked["kind"], "response": {"uid": request["uid"], **answer}}


async def _checked(resource: Object, before: Object | None, hub: Hub, installation: Installation) -> tuple[str, ...]:
    """What the user should know of a job that can run.

    Raises:
        ZerotuneError: it cannot.
    """
    if before is not None and ("deletionTimestamp" in resource["metadata"] or before["spec"] == resource["spec"]):
        return ()  # It was admitted once, maybe by other rules: it can still be labelled, and go.
    job = await off_loop(_accepted, resource, before, installation)
    status = JobStatus.model_validate(resource.get("status") or {})
    if status.phase in FINAL:
        return (changed_after_end(status).message,)
    shape = await BACKENDS[operator_target(job)].known_shape(job, status, hub)
    return () if shape is None else await off_loop(_planned, job, shape, installation)


def _accepted(resource: Object, before: Object | None, installation: Installation) -> Job:
    """The job, as far as it can be checked without its model."""
    job = parse_job(resource)
    if before is not None:
        check_update(parse_job(before), job)
    check(job, operator_target(job), installation)
    return job


def _planned(job: Job, shape: ModelShape, installation: Installation) -> tuple[str, ...]:
    target = operator_target(job)
    identity = JobIdentity(kind=job.kind, name=job.metadata.name, uid=job.metadata.uid or "unknown")
    backend = BACKENDS[target]
    plan = plan_job(job, shape, backend.outline(job, job.spec.model.uri or ANY_MODEL), identity)
    backend.check_plan(plan, job, installation)
    return plan.notes

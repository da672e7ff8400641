"""Labels and annotations that policies of a cluster demand reach every object; zerotune's own stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.kubernetes.rendering import INSTALLATION, attempt_of, fine_tune_job, inference_job
from zerotune_operator.api.jobs import Job
from zerotune_operator.backends.kubernetes.objects import Object
from zerotune_operator.backends.kubernetes.render import render_inspection
from zerotune_operator.backends.kubernetes.requirements import require_kubernetes
from zerotune_trainer.errors import ConfigurationError

USERS = {"labels": {"team": "soc"}, "annotations": {"example.com/owner": "a b"}}
JOBS = ("trainer", "inspection")
"""The Jobs of a job, which have pod templates."""
MAKERS = [fine_tune_job, inference_job]


def objects(job: Job) -> list[Object]:
    """Everything that is made for a job."""
    attempt = attempt_of(job, "s3://mmm/m")
    return [*attempt.shared, attempt.job, render_inspection(job, "s3://mmm/m", INSTALLATION)]


def metadata_of(job: Job) -> Iterator[Object]:
    """The metadata of every object and pod template."""
    for made in objects(job):
        yield made["metadata"]
        if made["kind"] == "Job":
            yield made["spec"]["template"]["metadata"]


@pytest.mark.parametrize("make", MAKERS)
def test_every_object_and_pod_has_the_users_labels_and_annotations(make: Any) -> None:
    plain = list(metadata_of(make()))
    found = list(metadata_of(make(backend={"kubernetes": {"metadata": USERS}})))
    assert len(plain) == len(objects(make())) + len(JOBS)
    for ours, both in zip(plain, found, strict=True):
        assert both["labels"] == ours["labels"] | USERS["labels"]
        assert both["annotations"] == ours.get("annotations", {}) | USERS["annotations"]


@pytest.mark.parametrize("make", MAKERS)
def test_selectors_do_not_depend_on_the_users_labels(make: Any) -> None:
    made = {each["kind"]: each for each in objects(make(backend={"kubernetes": {"metadata": USERS}}))}
    service, policy = made["Service"], made["NetworkPolicy"]
    assert "team" not in service["spec"]["selector"]
    assert "team" not in policy["spec"]["podSelector"]["matchLabels"]


@pytest.mark.parametrize("make", MAKERS)
def test_the_overlay_of_pods_may_set_another_value(make: Any) -> None:
    pod = {"metadata": {"labels": {"team": "research"}, "annotations": {"example.com/owner": "me"}}}
    job = make(backend={"kubernetes": {"metadata": USERS, "pod": pod}})
    for made in (each for each in objects(job) if each["kind"] == "Job"):
        template = made["spec"]["template"]["metadata"]
        assert (made["metadata"]["labels"]["team"], template["labels"]["team"]) == ("soc", "research")
        assert template["annotations"]["example.com/owner"] == "me"


@pytest.mark.slow
@pytest.mark.parametrize("make", MAKERS)
def test_no_label_by_which_objects_are_found_can_be_set(make: Any) -> None:
    own = [(field, key) for made in metadata_of(make()) for field in USERS for key in made.get(field, {})]
    assert ("labels", "zerotune.dev/job-uid") in own
    for field, key in own:
        with pytest.raises(ConfigurationError, match="zerotune's own"):
            require_kubernetes(make(backend={"kubernetes": {"metadata": {field: {key: "x"}}}}))

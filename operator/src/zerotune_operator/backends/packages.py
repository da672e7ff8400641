"""What an engine, an adapter and `training.arguments` need of Python packages, and the ranks of a job do not have."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from zerotune_operator.api.jobs import FineTuneJob, Job
from zerotune_operator.api.manifest_yaml import Problem
from zerotune_trainer.config.packages import OWN_PACKAGES, adapter_packages, engine_packages, missing_packages


def package_problems(job: Job, is_there: Callable[[str], bool], remedy: str) -> Iterator[Problem]:
    """The engine, the adapter and the values of `training.arguments` that need a package which is not there.

    Args:
        job: The job.
        is_there: Whether a module is there where its ranks run.
        remedy: What to do besides leaving the value out.
    """
    if isinstance(job, FineTuneJob):
        for missing in missing_packages(job.spec.training.arguments, is_there):
            place = ("spec", "training", "arguments", missing.argument)
            yield Problem(place, f"{missing}: leave it out, or {remedy.format(module=missing.module)}")
        for module in [module for module in adapter_packages(job.spec.adapter) if not is_there(module)]:
            needs = f"is 'qlora', which needs the Python package {module}"
            yield Problem(("spec", "adapter", "type"), f"{needs}: use lora, or {remedy.format(module=module)}")
    else:
        for module in [module for module in engine_packages(job.spec.engine) if not is_there(module)]:
            needs = f"is {job.spec.engine!r}, which needs the Python package {module}"
            yield Problem(("spec", "engine"), f"{needs}: take another engine, or {remedy.format(module=module)}")


def in_image(image: str | None) -> Callable[[str], bool]:
    """Whether a module is there in a trainer image: zerotune's own, which None stands for, has a few of them; an image
    of the user's may have them all.
    """
    return lambda module: image is not None or module in OWN_PACKAGES

"""`zerotune plan FILE`: what the jobs of a file would do, before anything runs."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
import yaml

from zerotune_operator.api.jobs import Job
from zerotune_operator.api.load import load_documents
from zerotune_operator.api.origins import Origin, model_origin, origins, record_origins, starting_from
from zerotune_operator.backends.chain import Placed, check_chain
from zerotune_operator.backends.check import check, target_of
from zerotune_operator.backends.kubernetes.installation import UNKNOWN_INSTALLATION
from zerotune_operator.backends.model_shape import model_shape, reference_shape, shape_of_file
from zerotune_operator.backends.registry import BACKENDS, Target
from zerotune_operator.cli.plan_table import show
from zerotune_operator.cli.plugin_file import check_config_map
from zerotune_operator.plan import DoesNotFitError, Plan, identity_of, plan_job
from zerotune_operator.plan.outputs import reading_output, shape_of_output
from zerotune_trainer.config import TrainConfig
from zerotune_trainer.config.base import JsonObject
from zerotune_trainer.config.model_shape import ModelShape
from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError, ZerotuneError

_PRICE = re.compile(r"([^=]+)=(\d+(?:\.\d+)?)")


class Planned(NamedTuple):
    """What a job of the file would do."""

    plan: Plan
    facts: Sequence[tuple[str, str]] = ()
    """What the backend says of where it runs."""
    request: JsonObject = {}  # noqa: RUF012 nobody changes it
    """What is asked of a service for it."""

    def data(self) -> dict[str, Any]:
        """All of it as JSON data."""
        return self.plan.data() | ({"request": self.request} if self.request else {})


class Format(StrEnum):
    """How the plan is written."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def command(
    file: Annotated[Path, typer.Argument(help="Manifest with one job or several; - for standard input.")],
    output: Annotated[
        Format, typer.Option("-o", "--output", help="Table, or data with the files of the pods.")
    ] = Format.TABLE,
    backend: Annotated[Target | None, typer.Option(help="Plan for this backend instead of the spec's.")] = None,
    model_config: Annotated[Path | None, typer.Option(help="The model's config.json, where it cannot be read.")] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(help="TYPE=USD: what an instance of a type costs an hour, for the table of instance types."),
    ] = None,
) -> None:
    """Show what the jobs of a file would do: ranks, batch, ZeRO stage, memory. Of models only config.json is read."""
    plans: list[Planned] = []
    prices = _prices(price or [])
    documents = load_documents(file)
    jobs = [each for each in documents if not isinstance(each, dict)]
    _require_used(prices, jobs)
    placed = [Placed(job, backend or target_of(job)) for job in jobs]
    for each in placed:
        check_chain(each, placed)
    for job, target in placed:
        try:
            check(job, target)
            check_config_map(job, documents)
            plans.append(_plan(job, target, model_config, plans))
        except DoesNotFitError as error:
            _write([*plans, Planned(error.plan, BACKENDS[target].facts(job))], output, prices, error)
            raise
        except ZerotuneError as error:
            if len(jobs) > 1:
                error.message = f"{job.kind} {job.metadata.name}: {error.message}"
            raise
    _write(plans, output, prices)


def _write(
    plans: list[Planned], output: Format, prices: Mapping[str, float], error: DoesNotFitError | None = None
) -> None:
    """Print the plans. The last one is that of a job which does not fit, where there is an `error`."""
    data = [planned.data() for planned in plans]
    if error is not None:
        data[-1] |= {"artifacts": {}, "error": {"message": error.message, "hint": error.hint}}
    if output is Format.TABLE:
        for planned in plans:
            show(planned.plan, planned.facts, prices)
    elif output is Format.JSON:
        typer.echo(json.dumps(data[0] if len(data) == 1 else data, indent=2))
    else:
        typer.echo(yaml.safe_dump_all(data, sort_keys=False, allow_unicode=True), nl=False)


def _plan(job: Job, target: Target, config: Path | None, earlier: list[Planned]) -> Planned:
    identity = identity_of(job)
    runs_on = BACKENDS[target]
    origin = model_origin(job)
    source = _plan_of(origin, earlier) if origin else None
    outputs = {"model": source.config.output_uri} if source else {}
    for records in record_origins(job):
        writer = _plan_of(records, earlier)
        outputs[records.part] = writer.config.output_uri if writer else runs_on.output_of(records)
    started = starting_from(job, outputs)
    uri = runs_on.model_uri(started)
    runs_on.check_outputs(job, outputs | ({"model": uri} if origin else {}))
    layout = runs_on.layout(started, uri)
    with reading_output(job, uri):
        shape = _shape(uri, job.spec.model.revision, config, source)
    # A path on a cluster means nothing here.
    reference = reference_shape(job, layout.resolve) if target is Target.LOCAL else None
    plan = plan_job(started, shape, layout, identity, reference, origins(job))
    runs_on.check_plan(plan, started, UNKNOWN_INSTALLATION)
    runs_on.check_inputs(job, [planned.plan.config.output_uri for planned in earlier])
    return Planned(plan, runs_on.facts(job), runs_on.request(plan, started, UNKNOWN_INSTALLATION))


def _prices(given: Sequence[str]) -> dict[str, float]:
    """USD an hour by instance type, of `TYPE=USD`.

    Raises:
        typer.BadParameter: one is written in another way, or a type has two.
    """
    matches = [_PRICE.fullmatch(text) for text in given]
    wrong = next((text for text, match in zip(given, matches, strict=True) if match is None), None)
    if wrong is not None:
        raise typer.BadParameter(
            f"{wrong!r} is not TYPE=USD, an instance type and what it costs an hour: write it as ml.g5.12xlarge=7.09"
        )
    prices: dict[str, float] = {}
    for name, price in (match.groups() for match in matches if match):
        if name in prices:
            raise typer.BadParameter(f"{name} has the prices {prices[name]:g} and {price}: give each type one")
        prices[name] = float(price)
    return prices


def _require_used(prices: Collection[str], jobs: Sequence[Job]) -> None:
    """See that each price is one of an instance type that a job of the file names.

    Raises:
        typer.BadParameter: one is not.
    """
    backends = [job.spec.backend.sagemaker for job in jobs]
    lists = [[each.instance_type, *each.instance_types] for each in backends if each is not None]
    named = list(dict.fromkeys(name for names in lists for name in names if name is not None))
    unknown = next((name for name in prices if name not in named), None)
    if unknown is not None:
        remedy = f"give prices of {', '.join(named)}" if named else "they name none: leave --price out"
        raise typer.BadParameter(f"{unknown} is no instance type of the jobs of this file: {remedy}")


def _plan_of(origin: Origin, earlier: list[Planned]) -> Plan | None:
    """The plan of a job that another one starts from, where it is of the same file."""
    wanted = (origin.kind, origin.name)
    plans = (planned.plan for planned in earlier)
    return next((plan for plan in plans if (plan.config.job.kind, plan.config.job.name) == wanted), None)


def _shape(uri: str, revision: str | None, config: Path | None, source: Plan | None) -> ModelShape:
    """Fine-tuning keeps the shape, so that of the model a job of this file starts from will do."""
    if config is not None:
        return shape_of_file(config)
    if source is not None:
        config_of_source = source.config
        adapter = config_of_source.adapter if isinstance(config_of_source, TrainConfig) else None
        return shape_of_output(adapter, source.shape, config_of_source.model_source or config_of_source.model_uri)
    try:
        return model_shape(uri, revision)
    except (InputMissingError, ConfigurationError, TemporaryError) as error:
        raise type(error)(
            error.message, f"{error.hint}; or give the model's config.json: --model-config FILE"
        ) from error

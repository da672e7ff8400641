"""`zerotune operator`: run the operator. The chart calls it; by hand it works on the cluster of KUBECONFIG."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

LogLevel = Annotated[str, typer.Option(envvar="ZEROTUNE_LOG_LEVEL", help="DEBUG, INFO, WARNING or ERROR.")]


def command(
    trainer_image: Annotated[str, typer.Option(envvar="ZEROTUNE_TRAINER_IMAGE", help="Image of the pods.")],
    operator_namespace: Annotated[
        str, typer.Option(envvar="ZEROTUNE_OPERATOR_NAMESPACE", help="Namespace of the Lease.")
    ],
    namespace: Annotated[
        list[str] | None, typer.Option(envvar="ZEROTUNE_NAMESPACE", help="Namespaces to work in. Default: all.")
    ] = None,
    image_pull_policy: Annotated[str, typer.Option(envvar="ZEROTUNE_IMAGE_PULL_POLICY")] = "IfNotPresent",
    lease: Annotated[str, typer.Option(envvar="ZEROTUNE_LEASE", help="The Lease that says who leads.")] = (
        "zerotune-operator"
    ),
    progress_interval: Annotated[
        float,
        typer.Option(envvar="ZEROTUNE_PROGRESS_INTERVAL", min=0.5, help="Seconds between observations of a job."),
    ] = 10.0,
    metrics_port: Annotated[int, typer.Option(envvar="ZEROTUNE_METRICS_PORT", min=1, max=65535)] = 8080,
    admission_port: Annotated[
        int | None, typer.Option(envvar="ZEROTUNE_ADMISSION_PORT", help="Serve the admission webhook here.")
    ] = None,
    admission_certificates: Annotated[
        Path, typer.Option(envvar="ZEROTUNE_ADMISSION_CERTIFICATES", help="Folder with tls.crt and tls.key.")
    ] = Path("/certificates"),
    monitoring_namespace: Annotated[
        list[str] | None,
        typer.Option(envvar="ZEROTUNE_MONITORING_NAMESPACE", help="Namespaces that scrape the metrics of jobs."),
    ] = None,
    pod_policy: Annotated[
        str,
        typer.Option(envvar="ZEROTUNE_POD_POLICY", help="What the pods of jobs may be: JSON, the chart's podPolicy."),
    ] = "{}",
    sagemaker: Annotated[
        str,
        typer.Option(envvar="ZEROTUNE_SAGEMAKER", help="Which jobs may run on SageMaker: JSON, the chart's sagemaker."),
    ] = "{}",
    ttl_seconds_after_finished: Annotated[
        int | None, typer.Option(min=0, help="runPolicy.ttlSecondsAfterFinished of jobs that set none.")
    ] = None,
    log_level: LogLevel = "INFO",
) -> None:
    """Run the operator."""
    import uvloop

    from zerotune_operator.backends.kubernetes.installation import Installation
    from zerotune_operator.backends.kubernetes.pod_policy import read_policy
    from zerotune_operator.backends.sagemaker.settings import read_settings
    from zerotune_operator.controller.process import Admission, Settings, run

    logging.basicConfig(level=log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = Settings(
        installation=Installation(
            trainer_image,
            image_pull_policy,
            operator_namespace,
            tuple(monitoring_namespace or ()),
            read_policy(pod_policy),
            read_settings(sagemaker),
            ttl_seconds_after_finished=ttl_seconds_after_finished,
        ),
        operator_namespace=operator_namespace,
        namespaces=namespace or (),
        lease=lease,
        progress_interval=progress_interval,
        metrics_port=metrics_port,
        admission=Admission(admission_port, admission_certificates) if admission_port else None,
    )
    raise typer.Exit(uvloop.run(run(settings)))

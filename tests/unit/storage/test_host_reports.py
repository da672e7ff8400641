"""What a host of a SageMaker training job reports to S3: a bucket that goes away does not take the ranks along."""

from __future__ import annotations

import boto3
import pytest

from zerotune_trainer.errors import InputMissingError
from zerotune_trainer.launching.sagemaker import Reporter
from zerotune_trainer.progress import NodeReport


def test_a_report_that_is_rejected_is_logged_and_no_error(
    s3_environment: str, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = Reporter(f"s3://{bucket}/status", "algo-1")
    stored = boto3.resource("s3", endpoint_url=s3_environment).Bucket(bucket)
    [written] = stored.objects.all()
    assert NodeReport.model_validate_json(written.get()["Body"].read()).host == "algo-1"
    stored.objects.all().delete()
    stored.delete()
    reporter.report_end(65, "a bad record")
    assert "a report is lost: " in caplog.text


@pytest.mark.usefixtures("s3_environment")
def test_a_folder_that_cannot_be_written_is_an_error_before_ranks_begin() -> None:
    with pytest.raises(InputMissingError):
        Reporter("s3://nobody-has-made-this/status", "algo-1")

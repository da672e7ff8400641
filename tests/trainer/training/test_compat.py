"""What is changed in libraries, and for which versions. That it works is seen in jobs: see also test_no_compiler.py."""

from __future__ import annotations

import io
import logging
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_a_change_is_made_to_the_versions_it_was_written_for_only(caplog: pytest.LogCaptureFixture) -> None:
    from zerotune_trainer.compat import DEEPSPEED, applies

    assert applies("deepspeed", DEEPSPEED)
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert not applies("deepspeed", "~=0.1.0")
    assert "deepspeed" in caplog.text and "is left as it is" in caplog.text


def test_zero_0_reports_the_gradient_norm_before_clipping(make_job: Any) -> None:
    job = make_job(stage=0)
    job.config["training"] |= {"maxSteps": 1, "maxGradNorm": 0.1}
    job.config["evaluation"]["evalStrategy"] = job.config["checkpoint"]["saveStrategy"] = "no"
    ended = job.run()

    assert ended.exit_codes == [0, 0], ended.failures
    (record,) = job.records()
    assert record["gradNorm"] > 0.2


def test_a_zero_stage_is_read_back_also_where_python_would_pickle_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """As 3.11.2 does it, which the image has."""
    import torch
    from deepspeed.runtime.zero.config import ZeroStageEnum

    from zerotune_trainer.compat import pickle_stages_by_value
    from zerotune_trainer.zero_checkpoint import allow_state_types

    monkeypatch.setattr(ZeroStageEnum, "__reduce_ex__", lambda stage, _: (getattr, (ZeroStageEnum, stage.name)))
    pickle_stages_by_value()
    file = io.BytesIO()
    torch.save({"zero_stage": ZeroStageEnum.weights}, file)
    file.seek(0)
    allow_state_types()
    assert torch.load(file, weights_only=True) == {"zero_stage": ZeroStageEnum.weights}

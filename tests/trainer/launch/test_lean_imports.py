"""What ranks import as they start: nothing that few jobs need and that takes a second of all of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from zerotune_trainer.launching.modules import PAYLOADS

pytestmark = pytest.mark.slow

IMPORTS = """
import sys
from multiprocessing import forkserver
from zerotune_trainer.launching import forkserver as ours
forkserver.ensure_running = lambda: None
ours.start_imports([{payload!r}], ours.Compute("cpu", 1))
for name in forkserver._forkserver._preload_modules:
    __import__(name)
print(sorted({{"mlflow", "bitsandbytes"}} & set(sys.modules)))
from peft.tuners.lora import Linear4bit
print("bitsandbytes" in sys.modules)
"""


@pytest.mark.parametrize("payload", PAYLOADS.values())
def test_ranks_import_mlflow_and_bitsandbytes_only_when_a_job_needs_them(payload: str) -> None:
    ran = subprocess.run(
        (sys.executable, "-c", IMPORTS.format(payload=payload)), capture_output=True, text=True, check=True
    )
    assert ran.stdout.split("\n")[-3:] == ["[]", "True", ""]

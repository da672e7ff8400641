"""DeepSpeed, imported without mlflow, which its autotuner imports where it is installed and no job here asks for.

mlflow, and the pandas that comes with it, would take a seventh of the time in which a rank starts.
"""

from __future__ import annotations

from zerotune_trainer.lean_import import import_without

deepspeed = import_without("mlflow", "deepspeed")

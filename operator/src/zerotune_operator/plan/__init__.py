"""spec > Plan: ranks, batch, precision, ZeRO candidate, and the folder every pod receives. Pure: no clients, no I/O."""

from zerotune_operator.plan.check import check_job
from zerotune_operator.plan.config import identity_of
from zerotune_operator.plan.layout import RuntimeLayout
from zerotune_operator.plan.partition import Partition, loading
from zerotune_operator.plan.plan import DoesNotFitError, Plan
from zerotune_operator.plan.planning import plan_job

__all__ = [
    "DoesNotFitError",
    "Partition",
    "Plan",
    "RuntimeLayout",
    "check_job",
    "identity_of",
    "loading",
    "plan_job",
]

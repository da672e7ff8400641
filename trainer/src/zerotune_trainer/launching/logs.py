"""How a launcher and its ranks log: to stdout, which they share, a whole line at a time. Torch-free."""

from __future__ import annotations

import io
import logging
import sys


def set_up_log(speaker: str, level: int = logging.INFO) -> None:
    """Log to stdout; every line says who speaks (`rank 3`, or the launcher's host).

    Args:
        speaker: Who speaks.
        level: From which level on zerotune speaks; libraries do with warnings.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    form = f"%(asctime)s [{speaker}] %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(stream=sys.stdout, level=logging.WARNING, format=form, force=True)
    logging.getLogger("zerotune_trainer").setLevel(level)

"""Imported first in the forkserver: imports make many objects and no garbage, so collecting is a second lost.

The ranks enable the collector again (`worker.run_rank`).
"""

import gc

gc.disable()

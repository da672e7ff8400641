"""Imported first in the forkserver: imports make many objects and no garbage, so collecting is a second lost.

The ranks turn the collector on again (`worker.run_rank`).
"""

import gc

gc.disable()

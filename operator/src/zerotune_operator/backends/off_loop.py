"""Parsing and planning of one object, away from the event loop.

Three bounds hold together, as none of them is enough. Sizes: what a spec may hold is limited where it enters
(`api.load`), so that the work ends by itself, in milliseconds for the jobs of people; a thread cannot be killed.
A thread: watches, Lease and probes go on while one object takes longer. Time: its job gets an answer and waits to be
tried again, and whatever else waits for the loop does not notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from zerotune_trainer.errors import TemporaryError

P = ParamSpec("P")
ResultT = TypeVar("ResultT")

LONGEST_SECONDS = 10.0

_THREADS = ThreadPoolExecutor(max_workers=4, thread_name_prefix="plan")
"""Of their own: those that wait for the Hub hold the loop's."""


async def off_loop(function: Callable[P, ResultT], *args: P.args, **kwargs: P.kwargs) -> ResultT:
    """What a function returns that does no I/O and touches nothing that the loop changes.

    Raises:
        TemporaryError: it takes too long. Its thread goes on until it ends by itself.
    """
    call = asyncio.get_running_loop().run_in_executor(_THREADS, lambda: function(*args, **kwargs))
    done, _ = await asyncio.wait((call,), timeout=LONGEST_SECONDS)
    if not done:
        raise TemporaryError(
            f"reading and planning the job takes longer than {LONGEST_SECONDS:g} s",
            "make its spec smaller; it is tried again",
        )
    return call.result()

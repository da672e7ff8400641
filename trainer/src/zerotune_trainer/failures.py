"""What an error or a dead rank means: library and system errors to our classes, and the root cause among several.

Errors of torch are recognized by name and text: the launcher uses this module too, and it does not import torch.
"""

from __future__ import annotations

import errno
import re
import signal
import traceback
from collections.abc import Callable, Sequence

from zerotune_trainer.errors import (
    PLACE_IS_FULL,
    SEE_TRACEBACK,
    ConfigurationError,
    Failure,
    InputMissingError,
    InternalError,
    KilledError,
    OutOfMemoryError,
    PeerLostError,
    StoppedError,
    TemporaryError,
    ZerotuneError,
)

_FOLLOWS = {StoppedError.failure_class: 1, PeerLostError.failure_class: 2}
_TRACEBACK_LINES = 6
_UNKNOWN_EXIT_CODE = 255
"""The exit code that multiprocessing makes up where the forkserver, which knows the real one, has ended."""
_SEE_LOG = "see the rank's last lines in the log"

_OUT_OF_MEMORY = re.compile(
    r"CUDA out of memory|can't allocate memory|CUDA error: out of memory|CUDA ran out of memory"
    r"|Cuda failure.*out of memory|Failed to CUDA (calloc|host alloc|malloc)"
    r"|CU(BLAS|DNN)_STATUS_\w*ALLOC(ATION)?_FAILED"
)
"""Messages of PyTorch's allocators and about CUDA's own, by NCCL, and by CUDA's libraries."""
_PORT_IN_USE = re.compile(r"EADDRINUSE|address already in use", re.IGNORECASE)
_PEER_LOST = re.compile(
    r"Connection (reset|closed|refused) by peer|Connection closed by|Connection was likely closed|Broken pipe"
    r"|Timed out waiting \d+ms for (recv|send)|Socket Timeout|remote process exited|NCCL.*(timeout|network error)",
    re.IGNORECASE,
)
_AWAY = {errno.EIO, errno.EREMOTEIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.EHOSTDOWN}
"""What a volume reports whose disk or server is lost, or comes and goes."""
_REJECTED = {errno.EROFS: "is read-only", errno.EACCES: "may not be accessed", errno.EPERM: "may not be changed"}


def classify(error: BaseException) -> ZerotuneError:
    """The error as one of ours: what happened, and what to do about it."""
    if isinstance(error, ZerotuneError):
        return error
    for attempt in (_memory, _peer, _system):
        if (found := attempt(error)) is not None:
            return found
    lines = "".join(traceback.format_exception(error)).rstrip().splitlines()[-_TRACEBACK_LINES:]
    return InternalError("\n".join(lines), f"{SEE_TRACEBACK}; please report it with the spec")


def describe(
    error: ZerotuneError, *, rank: int | None = None, host: str | None = None, step: int | None = None
) -> Failure:
    """The error as it travels."""
    return Failure(
        failure_class=error.failure_class,
        message=error.message,
        hint=error.hint,
        rank=rank,
        host=host,
        step=step,
        exit_code=error.exit_code,
    )


def or_stopped(error: ZerotuneError, *, stopping: bool) -> ZerotuneError:
    """All ranks are asked to stop at once; one may have ended before another stops, and that is no loss."""
    if stopping and isinstance(error, PeerLostError):
        return StoppedError(f"stopped on request, as its peers had before: {error.message}")
    return error


def where_in(error: BaseException, is_own: Callable[[str], bool]) -> str:
    """The place of an error in code of the user's, the innermost: ` (line 7)`, and the file where it is another one
    than the first; empty where the error is in none.

    Args:
        error: The error.
        is_own: Says of the name of a file whether it is the user's.
    """
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if is_own(frame.filename)]
    if not frames:
        return ""
    first, last = frames[0], frames[-1]
    return f" (line {last.lineno})" if last.filename == first.filename else f" ({last.filename}, line {last.lineno})"


def placed(error: BaseException, found: ZerotuneError, place: str) -> ZerotuneError:
    """What an error in code of the user's means: with the place where a file is missing, or may not be read.

    Args:
        error: The error.
        found: What it means by itself.
        place: Of the error, in that code.
    """
    if isinstance(error, ZerotuneError) or not isinstance(found, ConfigurationError | InputMissingError):
        return found
    return type(found)(f"{place}: {found.message}", found.hint)


def of_exit(
    rank: int, code: int, *, oom_kills: int | None, over_nccl: bool, own_code: str | None = None
) -> ZerotuneError:
    """What the end of a rank means that did not say why it ended.

    Args:
        rank: The global rank.
        code: Its exit code, negative where a signal ended it (as `multiprocessing.Process.exitcode`).
        oom_kills: How many processes of this node the kernel has killed for lack of memory since the ranks
            started; None where it does not say.
        over_nccl: Whether the rank had peers to which it spoke over NCCL.
        own_code: A file of the user's that the rank runs code of.
    """
    if code == -signal.SIGKILL or (code == _UNKNOWN_EXIT_CODE and oom_kills):
        return _of_sigkill(rank, oom_kills)
    if code == -signal.SIGTERM:
        return StoppedError(f"rank {rank} was ended by SIGTERM before it could catch it: there was nothing to save")
    if code == -signal.SIGBUS:
        return TemporaryError(f"rank {rank} died of SIGBUS", "give the node more shared memory (/dev/shm)")
    if code == -signal.SIGABRT and over_nccl:
        # PyTorch's watchdog ends the process in which a collective of NCCL failed, before anybody can catch an error.
        return PeerLostError(
            f"rank {rank} died of SIGABRT, as it does when NCCL loses another rank",
            "see the failure of that rank; if no other failed, " + _SEE_LOG,
        )
    if code < 0:
        return InternalError(f"rank {rank} died of {signal.Signals(-code).name}", _SEE_LOG)
    if own_code is not None and code != _UNKNOWN_EXIT_CODE:
        return ConfigurationError(
            f"rank {rank} ended with exit code {code} before its work was done, and without a reason, as by os._exit: "
            f"it runs {own_code}",
            "let that code return, or raise an error, and not end the process; " + _SEE_LOG,
        )
    if code == 0:
        return InternalError(f"rank {rank} ended before its work was done", _SEE_LOG)
    return InternalError(f"rank {rank} ended with exit code {code} and no reason", _SEE_LOG)


def root_cause(failures: Sequence[Failure]) -> Failure | None:
    """The failure that explains the others: the earliest; a stop or a lost peer only where nothing else failed.

    Args:
        failures: In the order in which they were seen.
    """
    return min(failures, key=lambda failure: _FOLLOWS.get(failure.failure_class, 0), default=None)


def _of_sigkill(rank: int, oom_kills: int | None) -> ZerotuneError:
    if oom_kills:
        return OutOfMemoryError(
            f"rank {rank}, or the process it was forked from, was killed by the kernel (SIGKILL): the memory limit of "
            "the node was reached",
            "raise topology.memory, lower the batch size or maxLength, or use more nodes",
        )
    known = "the kernel counts no kill for lack of memory" if oom_kills == 0 else "the kernel does not say why"
    return KilledError(
        f"rank {rank} was killed by SIGKILL; {known}",
        "see who killed it (`dmesg`, `kubectl describe pod`); with too little memory it is the out-of-memory killer",
    )


def _memory(error: BaseException) -> ZerotuneError | None:
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    telling = [line for line in str(error).splitlines() if _OUT_OF_MEMORY.search(line)]
    if not (named or isinstance(error, MemoryError) or telling):
        return None
    return OutOfMemoryError(
        telling[0] if telling else _first_line(error),
        "lower the batch of a device (perDeviceTrainBatchSize, perDeviceBatchSize) or data.maxLength; "
        "for training also set training.gradientCheckpointing or raise zero.stage",
    )


def _peer(error: BaseException) -> ZerotuneError | None:
    text = str(error)
    if _PORT_IN_USE.search(text):
        return TemporaryError(_first_line(error), "wait until the port is free, or choose another")
    if isinstance(error, RuntimeError) and _PEER_LOST.search(text):
        return PeerLostError(f"another rank went away: {_first_line(error)}", "see the failure of that rank")
    return None


def _system(error: BaseException) -> ZerotuneError | None:
    if not isinstance(error, OSError):
        return None
    if isinstance(error, ConnectionError | TimeoutError):
        return TemporaryError(f"a connection failed: {_first_line(error)}", "see that the store or hub can be reached")
    path = f"{error.filename} " if error.filename else "a file or disk "
    if error.errno in PLACE_IS_FULL:
        what = PLACE_IS_FULL[error.errno]
        return TemporaryError(f"{path}{what}: {error.strerror}", "free space there, or use another place")
    if error.errno in _AWAY:
        return TemporaryError(f"{path}does not answer: {error.strerror}", "see that the volume is mounted and answers")
    if error.errno in _REJECTED:
        return ConfigurationError(
            f"{path}{_REJECTED[error.errno]}: {error.strerror}", "give a place the job may write to"
        )
    if error.errno == errno.ENOENT:
        return InputMissingError(
            f"{path}is not there: {error.strerror}", "see the spec's URIs, and that the volume is mounted"
        )
    return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__

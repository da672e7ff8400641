"""What errors and dead ranks mean, and which failure explains the others."""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_trainer import errors
from zerotune_trainer.errors import Failure
from zerotune_trainer.failures import classify, describe, of_exit, or_stopped, root_cause
from zerotune_trainer.launching.processes import oom_kills


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), errors.OutOfMemoryError),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), errors.OutOfMemoryError),
        (RuntimeError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation'"), errors.OutOfMemoryError),
        (RuntimeError("CUDA ran out of memory outside PyTorch's allocator. If this"), errors.OutOfMemoryError),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            errors.OutOfMemoryError,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), errors.OutOfMemoryError),
        (
            RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
            errors.OutOfMemoryError,
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), errors.InternalError),
        (
            RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1"),
            errors.PeerLostError,
        ),
        (RuntimeError("Read error [127.0.0.1]:1: Connection reset by peer"), errors.PeerLostError),
        (RuntimeError("Timed out waiting 15000ms for recv operation to complete"), errors.PeerLostError),
        (RuntimeError("NCCL error: remote process exited or there was a network error"), errors.PeerLostError),
        (
            RuntimeError("The server socket has failed to listen: EADDRINUSE, address already in use"),
            errors.TemporaryError,
        ),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/a"), errors.TemporaryError),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG), "/out/a"), errors.TemporaryError),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/out/a"), errors.ConfigurationError),
        (PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/out/a"), errors.ConfigurationError),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/in/a"), errors.InputMissingError),
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), errors.TemporaryError),
        (TimeoutError("the read timed out"), errors.TemporaryError),
        (errors.DataError("a", "b"), errors.DataError),
        (KeyError("x"), errors.InternalError),
        (SystemExit(3), errors.InternalError),
    ],
)
def test_errors_of_libraries(error: BaseException, kind: type[errors.ZerotuneError]) -> None:
    assert type(classify(error)) is kind


@pytest.mark.parametrize(
    "last",
    [
        "Failed to CUDA calloc async 4 bytes",
        "Failed to CUDA calloc 6291456 bytes",
        "Failed to CUDA malloc 6291456 bytes",
        "Failed to CUDA host alloc 4096 bytes",
        "Cuda failure 2 'out of memory'",
        "enqueue.cc:1545 (12) Cuda failure 'out of memory'",
    ],
)
def test_memory_that_nccl_did_not_get_is_recognized_by_its_last_line(last: str) -> None:
    found = classify(
        RuntimeError(f"NCCL error in: a.cpp:94, unhandled cuda error, NCCL version 2.29\nLast error:\n{last}")
    )
    assert isinstance(found, errors.OutOfMemoryError)
    assert found.message == last


def test_a_disk_error_names_the_path_and_the_remedy() -> None:
    found = classify(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/out/model.safetensors"))
    assert found.message == "/out/model.safetensors is full: No space left on device"
    assert found.hint == "free space there, or use another place"


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EREMOTEIO, errno.ENODEV])
def test_a_volume_that_does_not_answer_is_tried_again(number: int) -> None:
    found = classify(OSError(number, os.strerror(number), "/model/model.safetensors"))
    assert isinstance(found, errors.TemporaryError)
    assert found.message == f"/model/model.safetensors does not answer: {os.strerror(number)}"
    assert found.hint == "see that the volume is mounted and answers"


def test_the_remedy_for_lack_of_memory_serves_both_kinds_of_job() -> None:
    hint = classify(MemoryError()).hint
    assert "perDeviceBatchSize" in hint
    assert "training.gradientCheckpointing" in hint


def test_our_bug_keeps_the_end_of_its_traceback() -> None:
    try:
        {}["missing"]
    except KeyError as error:
        found = classify(error)
    assert "KeyError: 'missing'" in found.message
    assert "test_failure_classes.py" in found.message


@pytest.mark.parametrize(
    ("code", "kills", "kind", "part"),
    [
        (-9, 1, errors.OutOfMemoryError, "was killed by the kernel (SIGKILL)"),
        (255, 1, errors.OutOfMemoryError, "the process it was forked from, was killed by the kernel"),
        (255, 0, errors.InternalError, "rank 3 ended with exit code 255 and no reason"),
        (-9, 0, errors.KilledError, "the kernel counts no kill for lack of memory"),
        (-9, None, errors.KilledError, "the kernel does not say why"),
        (-15, None, errors.StoppedError, "SIGTERM"),
        (-7, None, errors.TemporaryError, "SIGBUS"),
        (-6, None, errors.InternalError, "rank 3 died of SIGABRT"),
        (1, None, errors.InternalError, "rank 3 ended with exit code 1 and no reason"),
        (0, None, errors.InternalError, "rank 3 ended before its work was done"),
    ],
)
def test_ranks_that_leave_no_word(code: int, kills: int | None, kind: type[errors.ZerotuneError], part: str) -> None:
    found = of_exit(3, code, oom_kills=kills, over_nccl=False)
    assert type(found) is kind
    assert part in found.message


@pytest.mark.parametrize(
    ("code", "kind"), [(0, "Configuration"), (3, "Configuration"), (255, "Internal"), (-11, "Internal")]
)
def test_code_of_the_users_that_ends_a_rank_is_named(code: int, kind: str) -> None:
    found = of_exit(3, code, oom_kills=None, over_nccl=False, own_code="file:///train.py")
    assert found.failure_class == kind
    assert ("it runs file:///train.py" in found.message) is (kind == "Configuration")


def test_a_rank_that_nccl_ends_has_lost_a_peer() -> None:
    found = of_exit(3, -signal.SIGABRT, oom_kills=None, over_nccl=True)
    assert type(found) is errors.PeerLostError
    assert found.message == "rank 3 died of SIGABRT, as it does when NCCL loses another rank"
    crash = of_exit(3, -signal.SIGSEGV, oom_kills=None, over_nccl=True)
    assert type(crash) is errors.InternalError


def test_a_peer_that_is_lost_in_a_stop_is_no_loss() -> None:
    lost, bad = errors.PeerLostError("Connection reset by peer"), errors.DataError("not JSON")
    assert or_stopped(lost, stopping=False) is lost
    assert or_stopped(bad, stopping=True) is bad
    stopped = or_stopped(lost, stopping=True)
    assert type(stopped) is errors.StoppedError
    assert stopped.message == "stopped on request, as its peers had before: Connection reset by peer"


_KINDS = [errors.PeerLostError, errors.StoppedError, errors.DataError, errors.HangError, errors.InternalError]
_failures = st.lists(st.builds(lambda kind, text: describe(kind(text)), st.sampled_from(_KINDS), st.text(max_size=3)))


@given(_failures)
def test_the_root_cause_is_the_first_that_follows_from_no_other(failures: list[Failure]) -> None:
    causes = [failure for failure in failures if failure.failure_class not in ("PeerLost", "Stopped")]
    stops = [failure for failure in failures if failure.failure_class == "Stopped"]
    assert root_cause(failures) is next(iter([*causes, *stops, *failures]), None)


@pytest.mark.parametrize(
    ("cgroup", "file"),
    [
        ("0::/kubepods/pod1\n", "kubepods/pod1/memory.events"),
        ("0::/kubepods/pod1\n", "memory.events"),
        ("4:memory:/a\n0::/\n", "memory/a/memory.oom_control"),
        ("4:memory:/a\n", "memory/memory.oom_control"),
    ],
)
def test_kills_for_lack_of_memory_are_read_from_either_cgroup_version(tmp_path: Path, cgroup: str, file: str) -> None:
    (tmp_path / "cgroup").write_text(cgroup)
    (tmp_path / "fs" / file).parent.mkdir(parents=True)
    (tmp_path / "fs" / file).write_text("oom 7\noom_kill 3\noom_group_kill 5\n")
    assert oom_kills(tmp_path / "cgroup", tmp_path / "fs") == 3


def test_kills_for_lack_of_memory_may_be_unknown(tmp_path: Path) -> None:
    assert oom_kills(tmp_path / "none", tmp_path) is None


@pytest.mark.parametrize("kind", [errors.ModelChangedError, errors.SupersededError, errors.DataError])
def test_a_failure_that_travelled_is_the_error_that_it_was(kind: type[errors.ZerotuneError]) -> None:
    """Also one whose class is a kind of another."""
    error = kind("found", "remedy")
    found = errors.error_of(describe(error))
    assert type(found) is type(error)
    assert (found.message, found.hint, found.exit_code) == (error.message, error.hint, error.exit_code)

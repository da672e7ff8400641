"""The node's first process: starts every component and keeps it running until it is told to stop.

It is PID 1 of a PID namespace, with a mount and a network namespace of its own: when it ends, the kernel ends every
component, pod and shim, and drops every mount, interface and firewall rule. Nothing has to be undone one by one.

    python node.py ROOT PROGRAMS        (started by bed.py under `unshare`)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import settings

RESTART_DELAY_SECONDS = 1.0


def main() -> None:
    """Run until SIGTERM."""
    folders = settings.Folders(Path(sys.argv[1]))
    _prepare_namespaces()
    commands = settings.command_lines(folders, Path(sys.argv[2]))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    running = {_start(folders, name, command): name for name, command in commands.items()}
    while True:
        # As PID 1 we inherit orphans; shims and pause processes among them.
        pid, _ = os.wait()
        if name := running.pop(pid, None):
            time.sleep(RESTART_DELAY_SECONDS)
            running[_start(folders, name, commands[name])] = name


def _prepare_namespaces() -> None:
    # Pods mount volumes in namespaces of their own; what the kubelet mounts must reach them.
    for command in (
        ["mount", "--make-rshared", "/"],
        ["ip", "link", "set", "lo", "up"],
        ["sysctl", "-qw", "net.ipv4.ip_forward=1"],
    ):
        subprocess.run(command, check=True)


def _start(folders: settings.Folders, name: str, command: list[str]) -> int:
    log = (folders.logs / f"{name}.log").open("ab")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    log.close()
    (folders.root / "pids" / name).write_text(str(process.pid))
    # `main` reaps every child by itself, so Popen must not complain that nobody waited.
    process.returncode = 0
    return process.pid


if __name__ == "__main__":
    main()

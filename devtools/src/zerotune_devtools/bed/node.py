"""The node's first process: starts every component and keeps it running until it is asked to stop.

It is PID 1 of a PID namespace, with a mount and a network namespace of its own: when it ends, the kernel ends every
component, pod and shim, and drops every mount, interface and firewall rule. Nothing has to be undone one by one.

    python bed/node.py ROOT PROGRAMS       (started by bed.py under `unshare`)
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from zerotune_devtools.bed import settings

RESTART_DELAY_SECONDS = 1.0
# Heaps are small here: by default Go would spend a fifth of a busy API server's time on collecting garbage.
COLLECT_SELDOM = {"GOGC": "200"}


def main() -> None:
    """Run until SIGTERM."""
    folders = settings.Folders(Path(sys.argv[1]))
    _prepare_namespaces()
    _forget_containers(folders)
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
    # Sockets, logs and networks of kubelet, shims and CNI have their fixed places: they end with us, too.
    for folder in settings.PRIVATE_FOLDERS:
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], check=True)


def _forget_containers(folders: settings.Folders) -> None:
    """Remove containers that an earlier bed left in containerd's memory, before a kubelet wonders at them."""
    ctr = ["ctr", "--address", str(folders.socket), "--namespace", "k8s.io"]
    without_kubernetes = folders.root / "containerd-images-only.toml"
    without_kubernetes.write_text(f'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n{settings.containerd(folders)}')
    log = (folders.logs / "containerd.log").open("ab")
    with subprocess.Popen(["containerd", "--config", without_kubernetes], stdout=log, stderr=log) as containerd:
        while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode != 0:
            time.sleep(0.1)
        listed = subprocess.run([*ctr, "containers", "list", "--quiet"], check=True, capture_output=True, text=True)
        if names := listed.stdout.split():
            subprocess.run([*ctr, "containers", "delete", *names], check=True)
        containerd.terminate()
    log.close()


def _start(folders: settings.Folders, name: str, command: list[str]) -> int:
    log = (folders.logs / f"{name}.log").open("ab")
    environment = os.environ | COLLECT_SELDOM
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True
    )
    log.close()
    (folders.root / "pids" / name).write_text(str(process.pid))
    # `main` reaps every child by itself, so Popen must not complain that nobody waited.
    process.returncode = 0
    return process.pid


if __name__ == "__main__":
    main()

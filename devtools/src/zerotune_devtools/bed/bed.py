"""The test bed: a real Kubernetes of one node, started and stopped as one process."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from zerotune_devtools import debian
from zerotune_devtools.bed import components, loading, pki, settings
from zerotune_devtools.checkout import cache_folder
from zerotune_devtools.images import NONE_BUILT, layout

NODE_SCRIPT = Path(__file__).with_name("node.py")
INTERFACE = "zerotune-bed"
READY_TIMEOUT_SECONDS = 120
PAUSE_SOURCE = components.SOURCES / "pause.c"


class Bed:
    """A test bed whose state lies below one folder."""

    def __init__(self) -> None:
        self.folders = settings.Folders(cache_folder() / "test-bed")

    def up(self) -> Path:
        """Start what does not run; returns the kubeconfig. A bed that runs but does not answer is started anew.

        Raises:
            TimeoutError: the node did not become Ready; the message names the folder of the logs.
        """
        if self._pid() and self._ready() and self._containerd().answers():
            return self.folders.kubeconfig
        self.down()
        debian.require(settings.DEBIAN_PACKAGES)
        programs = components.build()
        self._write_files()
        self._start(programs)
        self._wait_until_ready()
        return self.folders.kubeconfig

    def down(self) -> None:
        """Stop everything and remove its state; the cached programs stay. Does nothing where nothing runs."""
        if pid := self._pid():
            os.kill(pid, signal.SIGKILL)
            _wait_for_end(pid)
        _remove_interface()
        _remove_cgroups()
        _remove_mount_points()
        if self.folders.root.exists():
            shutil.rmtree(self.folders.root)

    def kubectl(self, *arguments: str, check: bool = True, stdin: str | None = None) -> str:
        """kubectl against this bed; its standard output."""
        program = cache_folder() / "bin" / "kubectl"
        command = [str(program), "--kubeconfig", str(self.folders.kubeconfig), *arguments]
        return subprocess.run(command, check=check, capture_output=True, text=True, input=stdin).stdout

    def load(self, layout_folder: Path) -> list[str]:
        """Give the node the images of an OCI layout; returns the names of those that it did not have yet.

        Raises:
            RuntimeError: there is none.
        """
        if not (built := layout.images(layout_folder)):
            raise RuntimeError(NONE_BUILT)
        return [name for name in built if self._containerd().load(layout_folder, name)]

    def pid_of(self, component: str) -> int:
        """A component by its number here: the bed writes down the numbers of its own PID namespace.

        Raises:
            LookupError: it does not run.
        """
        inside = (self.folders.root / "pids" / component).read_text()
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It ended meanwhile.
                lines = status.read_text().splitlines()
                numbers = next((line.split()[1:] for line in lines if line.startswith("NSpid:")), [])
                if len(numbers) == 2 and numbers[1] == inside:
                    return int(numbers[0])
        raise LookupError(f"no process of the test bed has the number {inside}: {component} is not running")

    def _containerd(self) -> loading.Containerd:
        return loading.Containerd(self.folders.socket)

    def _pid(self) -> int | None:
        """The node's first process, if there is one. Looked for by its command line: a note of it may get lost."""
        wanted = [NODE_SCRIPT.name, str(self.folders.root)]
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # It ended meanwhile.
                arguments = path.read_bytes().decode(errors="replace").split("\0")
                if [
                    Path(argument).name if index == 0 else argument for index, argument in enumerate(arguments[1:3])
                ] == wanted:
                    return int(path.parent.name)
        return None

    def _write_files(self) -> None:
        folders = self.folders
        for folder in (folders.logs, folders.root / "cni", folders.root / "pids", folders.volumes):
            folder.mkdir(parents=True)
        for path in settings.PRIVATE_FOLDERS:
            Path(path).mkdir(parents=True, exist_ok=True)
        _issue_certificates(folders)
        texts = {
            "containerd.toml": settings.containerd(folders),
            "cni/10-pods.conflist": settings.network(folders),
            "kubelet.json": settings.kubelet(folders),
            "Corefile": settings.coredns(folders),
            "resolv.conf": f"nameserver {settings.NODE_ADDRESS}\n",
        }
        for name, text in texts.items():
            (folders.root / name).write_text(text)

    def _start(self, programs: Path) -> None:
        unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        log = (self.folders.logs / "node.log").open("ab")
        outer = subprocess.Popen(
            [*unshare, sys.executable, NODE_SCRIPT, self.folders.root, programs],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        log.close()
        inner = _only_child(outer.pid)
        _connect(inner)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_SECONDS
        self._load_pause_image(deadline)
        while not self._ready():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"the test bed is not Ready after {READY_TIMEOUT_SECONDS} s; see {self.folders.logs}"
                )
            time.sleep(0.5)
        # Without it no pod is admitted.
        self.kubectl("wait", "serviceaccount/default", "--for=create", f"--timeout={READY_TIMEOUT_SECONDS}s")

    def _ready(self) -> bool:
        answer = self.kubectl("get", "node", settings.NODE_NAME, "-o", "json", "--request-timeout=5s", check=False)
        conditions = json.loads(answer)["status"].get("conditions", []) if answer else []
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def _load_pause_image(self, deadline: float) -> None:
        archive = _pause_archive(self.folders.root)
        ctr = ["ctr", "--address", str(self.folders.socket), "--namespace", "k8s.io"]
        command = [*ctr, "images", "import", str(archive)]
        while subprocess.run(command, capture_output=True, check=False).returncode != 0:
            if time.monotonic() > deadline:
                raise TimeoutError(f"containerd takes no image; see {self.folders.logs}/containerd.log")
            time.sleep(0.3)


def _issue_certificates(folders: settings.Folders) -> None:
    authority = pki.Authority(folders.pki)
    server_names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.96.0.1", "127.0.0.1"]
    authority.issue("kube-apiserver", "kube-apiserver", [], [*server_names, settings.NODE_ADDRESS])
    authority.issue("admin", "admin", ["system:masters"])
    authority.issue("kubelet", f"system:node:{settings.NODE_NAME}", ["system:nodes"])
    for name in ("kube-controller-manager", "kube-scheduler", "kube-proxy"):
        authority.issue(name, f"system:{name}", [])
    for name in ("admin", "kubelet", "kube-controller-manager", "kube-scheduler", "kube-proxy"):
        authority.kubeconfig(name, settings.SERVER)


def _only_child(pid: int) -> int:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (text := children.read_text().split()):
        time.sleep(0.02)
    return int(text[0])


def _connect(pid: int) -> None:
    """A cable between this machine, the node's network namespace and its pods; it goes when the namespace goes."""
    inside = ["nsenter", "--net", "--target", str(pid)]
    for command in (
        ["ip", "link", "add", INTERFACE, "type", "veth", "peer", "name", "eth0", "netns", str(pid)],
        ["ip", "address", "add", f"{settings.HOST_ADDRESS}/30", "dev", INTERFACE],
        ["ip", "link", "set", INTERFACE, "up"],
        ["ip", "route", "add", settings.POD_NETWORK, "via", settings.NODE_ADDRESS],
        [*inside, "ip", "address", "add", f"{settings.NODE_ADDRESS}/30", "dev", "eth0"],
        [*inside, "ip", "link", "set", "eth0", "up"],
        [*inside, "ip", "route", "add", "default", "via", settings.HOST_ADDRESS],
    ):
        subprocess.run(command, check=True)


def _wait_for_end(pid: int) -> None:
    while Path(f"/proc/{pid}").exists():
        with contextlib.suppress(ChildProcessError):  # Somebody else's child: /proc shows when it has ended.
            os.waitpid(pid, os.WNOHANG)
        time.sleep(0.05)


def _remove_interface() -> None:
    """The cable goes with the node's network namespace, which the kernel takes down when it has the time."""
    interface = Path("/sys/class/net") / INTERFACE
    subprocess.run(["ip", "link", "delete", INTERFACE], capture_output=True, check=False)
    while interface.exists():
        time.sleep(0.05)


def _remove_mount_points() -> None:
    for folder in settings.PRIVATE_FOLDERS:
        with contextlib.suppress(OSError):  # It is not there, or somebody has files there, as in /run.
            Path(folder).rmdir()


def _remove_cgroups() -> None:
    for folder in sorted(Path("/sys/fs/cgroup").glob("**/kubepods*"), reverse=True):
        for child in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            child.rmdir()
        if folder.is_dir():
            folder.rmdir()


def _pause_archive(root: Path) -> Path:
    """The image of the process that holds a pod's namespaces: one static program."""
    program = root / "pause"
    subprocess.run(["gcc", "-static", "-Os", "-o", program, PAUSE_SOURCE], check=True)
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(program, arcname="pause")
    config = {"architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/pause"]}}
    manifest = [{"Config": "config.json", "RepoTags": [settings.PAUSE_IMAGE], "Layers": ["layer.tar"]}]
    files = {
        "layer.tar": layer.getvalue(),
        "config.json": json.dumps(config | {"rootfs": _root_file_system(layer.getvalue())}).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    archive = root / "pause.tar"
    with tarfile.open(archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def _root_file_system(layer: bytes) -> dict[str, object]:
    return {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}

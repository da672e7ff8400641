"""The programs of the test bed, built once from source and cached by the content of what they are built from.

kubernetes/   etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, kubectl: one binary
coredns/      CoreDNS
helm, kwok    from their modules, at the versions named here
crane         the same; `crane registry serve` is a registry to push to and to pull from
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from zerotune_devtools.checkout import cache_folder

SOURCES = Path(__file__).with_name("sources")
KUBERNETES = "1.36.3"
GO = "1.26"
"""The version that the modules ask for."""
NAMES = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
MODULES = {
    "helm": "helm.sh/helm/v4/cmd/helm@v4.3.1",
    "kwok": "sigs.k8s.io/kwok/cmd/kwok@v0.8.0",
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
}
_VERSION = "k8s.io/component-base/version"
_STRIPPED = "-s -w"


def build(names: tuple[str, ...] = ("kubernetes", "coredns", "helm", "kwok")) -> Path:
    """Build what is not in the cache yet; returns the folder that holds all programs by name.

    Raises:
        RuntimeError: there is no Go to build with.
        subprocess.CalledProcessError: a build failed; what Go printed is on stderr.
    """
    folder = cache_folder() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        _link(folder, name, _built(name))
    return folder


def client_programs() -> None:
    """Have kubectl and helm where `build` puts them: those of the PATH, as that is quick, else built.

    Raises:
        RuntimeError: there is no Go to build with.
        subprocess.CalledProcessError: a build failed; what Go printed is on stderr.
    """
    folder = cache_folder() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for program, component in {"kubectl": "kubernetes", "helm": "helm"}.items():
        if (folder / program).exists():
            continue
        if found := shutil.which(program):
            _link(folder, program, Path(found))
        else:
            build((component,))


def _built(name: str) -> Path:
    """The cached binary of a component, built if need be. A build that was cut short leaves nothing behind."""
    target = cache_folder() / "components" / f"{name}-{_digest(name)}"
    if not target.is_file():
        if not shutil.which("go"):
            raise RuntimeError(
                f"{name} is built from source, and there is no `go` in PATH: install Go {GO} or newer, see "
                "https://go.dev/doc/install"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        print(f"building {name} (once; minutes) ...", flush=True)
        draft = target.with_name(f"{target.name}.{os.getpid()}")
        _go_build(name, draft)
        draft.replace(target)
    return target


def _go_build(name: str, target: Path) -> None:
    environment = os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-trimpath -buildvcs=false"}
    if name in MODULES:
        bin_folder = target.with_name(f"{target.name}.gobin")
        subprocess.run(
            ["go", "install", "-ldflags", _STRIPPED, MODULES[name]],
            env=environment | {"GOBIN": str(bin_folder)},
            check=True,
        )
        (bin_folder / name).replace(target)
        bin_folder.rmdir()
        return
    subprocess.run(
        ["go", "build", "-ldflags", _flags(name), "-o", target, "."], cwd=SOURCES / name, env=environment, check=True
    )


def _flags(name: str) -> str:
    if name != "kubernetes":
        return _STRIPPED
    major, minor, _ = KUBERNETES.split(".")
    values = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    return " ".join([_STRIPPED, *(f"-X {_VERSION}.{key}={value}" for key, value in values.items())])


def _digest(name: str) -> str:
    if name in MODULES:
        content = MODULES[name].encode()
    else:
        content = b"".join(path.read_bytes() for path in sorted((SOURCES / name).iterdir())) + _flags(name).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _link(folder: Path, name: str, binary: Path) -> None:
    for link_name in NAMES if name == "kubernetes" else (name,):
        link = folder / link_name
        if not link.is_symlink() or link.readlink() != binary:
            link.unlink(missing_ok=True)
            link.symlink_to(binary)

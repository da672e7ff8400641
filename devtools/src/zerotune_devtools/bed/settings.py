"""Configuration files and command lines of the test bed's components. Pure: folders in, texts out."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

HOST_ADDRESS = "10.231.0.1"
"""This machine's end of the cable into the test bed."""
NODE_ADDRESS = "10.231.0.2"
"""The node: API server, kubelet and CoreDNS listen here."""
NODE_NAME = "test-bed"
POD_NETWORK = "10.244.0.0/24"
SERVICE_NETWORK = "10.96.0.0/16"
SERVER = f"https://{NODE_ADDRESS}:6443"
PRIVATE_FOLDERS = ("/run", "/var/log", "/var/lib/kubelet", "/var/lib/cni")
"""What the node has to itself where paths cannot be set."""
DEBIAN_PACKAGES = {
    "containerd": "containerd",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "ip": "iproute2",
}
"""The package of each program that comes from Debian."""
PAUSE_IMAGE = "zerotune.dev/test-bed/pause:1"
REGISTRY = f"{HOST_ADDRESS}:5000"
"""Where tests serve a registry, without TLS."""


@dataclass(frozen=True)
class Folders:
    """Where a test bed keeps its state: everything below one folder."""

    root: Path

    @property
    def pki(self) -> Path:
        """Certificates and kubeconfigs."""
        return self.root / "pki"

    @property
    def logs(self) -> Path:
        """A log a component."""
        return self.root / "logs"

    @property
    def containerd(self) -> Path:
        """containerd's images. Beside our root: they outlive the bed, so that an image is loaded once."""
        return self.root.with_name(f"{self.root.name}-images")

    @property
    def volumes(self) -> Path:
        """A folder a persistent volume."""
        return self.root / "volumes"

    @property
    def socket(self) -> Path:
        """Where containerd listens."""
        return self.root / "containerd.sock"

    @property
    def kubeconfig(self) -> Path:
        """What kubectl and helm are given."""
        return self.pki / "admin.kubeconfig"


def containerd(folders: Folders) -> str:
    """containerd's config.toml: all below our root, images and networks of our own."""
    return f"""\
version = 2
root = "{folders.containerd}"
state = "{folders.root}/containerd"
[grpc]
  address = "{folders.socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folders.root}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Without CAP_SYS_RESOURCE a container's OOM score cannot be lowered, and starting it would fail.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folders.root}/cni"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."{REGISTRY}"]
    endpoint = ["http://{REGISTRY}"]
"""


def network(folders: Folders) -> str:
    """The CNI configuration: a bridge, addresses of our pod network."""
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "dataDir": f"{folders.root}/addresses",
            "ranges": [[{"subnet": POD_NETWORK}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    }
    plugins = [bridge, {"type": "portmap", "capabilities": {"portMappings": True}}]
    return json.dumps({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}, indent=2)


def kubelet(folders: Folders) -> str:
    """KubeletConfiguration: cgroup v1 accepted, no reservations, small eviction thresholds.

    Images are never collected, and may be used under every name: else one that was loaded would be pulled anew, from
    nowhere, once it had been pulled under another name.
    """
    return json.dumps(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {"x509": {"clientCAFile": f"{folders.pki}/ca.crt"}},
            "containerRuntimeEndpoint": f"unix://{folders.socket}",
            "clusterDNS": [NODE_ADDRESS],
            "clusterDomain": "cluster.local",
            "resolvConf": f"{folders.root}/resolv.conf",
            "failCgroupV1": False,
            "failSwapOn": False,
            "cgroupDriver": "cgroupfs",
            "enforceNodeAllocatable": [],
            "evictionHard": {"memory.available": "200Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imagePullCredentialsVerificationPolicy": "NeverVerify",
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "nodeStatusUpdateFrequency": "4s",
            "syncFrequency": "10s",
            "serializeImagePulls": False,
            "maxPods": 200,
        },
        indent=2,
    )


def coredns(folders: Folders) -> str:
    """Corefile: the cluster's names and nothing else; there is no world outside."""
    return f"""\
.:53 {{
    bind {NODE_ADDRESS}
    errors
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {folders.kubeconfig}
        ttl 1
    }}
}}
"""


def command_lines(folders: Folders, programs: Path) -> dict[str, list[str]]:
    """Every component's command line, in the order to start them."""
    pki = folders.pki
    rates = ["--kube-api-qps=2000", "--kube-api-burst=2000"]
    return {
        "containerd": ["containerd", "--config", f"{folders.root}/containerd.toml"],
        "etcd": [
            f"{programs}/etcd",
            f"--data-dir={folders.root}/etcd-data",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            # The data lives no longer than the tests.
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            f"{programs}/kube-apiserver",
            f"--advertise-address={NODE_ADDRESS}",
            "--etcd-servers=http://127.0.0.1:2379",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=false",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            # Without it the API server asks the node by its name, which nothing resolves here.
            "--kubelet-preferred-address-types=InternalIP",
            f"--client-ca-file={pki}/ca.crt",
            f"--tls-cert-file={pki}/kube-apiserver.crt",
            f"--tls-private-key-file={pki}/kube-apiserver.key",
            f"--kubelet-client-certificate={pki}/admin.crt",
            f"--kubelet-client-key={pki}/admin.key",
            "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
            f"--service-account-key-file={pki}/service-account.pub",
            f"--service-account-signing-key-file={pki}/service-account.key",
        ],
        "kube-controller-manager": [
            f"{programs}/kube-controller-manager",
            f"--kubeconfig={pki}/kube-controller-manager.kubeconfig",
            f"--service-account-private-key-file={pki}/service-account.key",
            f"--root-ca-file={pki}/ca.crt",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--concurrent-job-syncs=20",
            # Node loss is noticed within the minute that diagnosis is promised in.
            "--node-monitor-grace-period=20s",
            *rates,
        ],
        "kube-scheduler": [
            f"{programs}/kube-scheduler",
            f"--kubeconfig={pki}/kube-scheduler.kubeconfig",
            "--leader-elect=false",
            *rates,
        ],
        "kubelet": [
            f"{programs}/kubelet",
            f"--kubeconfig={pki}/kubelet.kubeconfig",
            f"--config={folders.root}/kubelet.json",
            f"--root-dir={folders.root}/kubelet",
            f"--hostname-override={NODE_NAME}",
            f"--node-ip={NODE_ADDRESS}",
        ],
        "kube-proxy": [
            f"{programs}/kube-proxy",
            f"--kubeconfig={pki}/kube-proxy.kubeconfig",
            f"--hostname-override={NODE_NAME}",
            "--proxy-mode=iptables",
            # Connection tracking limits belong to the machine, not to this network namespace.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ],
        "volumes": [sys.executable, str(Path(__file__).with_name("volumes.py")), str(folders.root)],
        "coredns": [f"{programs}/coredns", "-conf", f"{folders.root}/Corefile"],
    }

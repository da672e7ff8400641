"""Lets PyPI's torch and bitsandbytes run without CUDA: `python without_cuda.py SITE_PACKAGES` (needs gcc and binutils).

The wheel for Linux is linked against 3 GB of CUDA that only a GPU ever calls. Each such library is replaced by an empty
one of the same name: it has the functions that torch looks for, and all they do is answer that there is no device.
PyTorch's own CPU wheels leave the same libraries out, but come from another index than PyPI. The wheel of bitsandbytes
has a library for each version of CUDA, ROCm and XPU, and loads the one for CPU where there is none of them: the others,
120 MB, are removed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

# cudaErrorNoDevice; an error in every other of these libraries as well.
_NO_DEVICE = 100
# Which functions are whose, where symbols carry no version that says so. The first that fits counts.
_PREFIXES = {
    "libcublasLt": "cublasLt",
    "libcublas": "cublas",
    "libcufft": "cufft",
    "libcurand": "curand",
    "libcusparseLt": "cusparseLt",
    "libcusparse": "cusparse",
    "libcusolver": "cusolver",
    "libcudnn": "cudnn",
    "libcufile": "cuFile",
    "libcupti": "cupti",
    "libnccl": "nccl",
    "libnvrtc": "nvrtc",
    "libnvshmem_host": "nvshmem",
    "libcudart": "(__)?cuda",
}
# What says in words what an error means: a number in place of the words would end the process.
_WORDS = re.compile(r"\w+Get(Error|Status)(String|Name)|ncclGetLastError")
Symbols = dict[str, dict[str, set[tuple[str, str]]]]
"""By library, by version (empty where there is none): name and type."""


def main() -> None:
    """Write the empty libraries beside torch's own, which look for them there; remove those of bitsandbytes."""
    for library in Path(sys.argv[1], "bitsandbytes").glob("libbitsandbytes_*.so"):
        if library.stem != "libbitsandbytes_cpu":
            library.unlink()
    folder = Path(sys.argv[1], "torch", "lib")
    symbols = wanted(folder)
    for soname in needed(folder):
        _compile(folder / soname, symbols[soname.split(".so")[0]])


def needed(folder: Path) -> set[str]:
    """The libraries of CUDA that those in the folder are linked against. The driver's is none of them."""
    text = _readelf("--dynamic", *folder.glob("*.so*"))
    names = set(re.findall(r"NEEDED.*\[(.+)\]", text))
    return {name for name in names if name.split(".so")[0] in _PREFIXES}


def wanted(folder: Path) -> Symbols:
    """What the libraries in the folder expect of CUDA's."""
    symbols: Symbols = defaultdict(lambda: defaultdict(set))
    for line in _readelf("--dyn-syms", *folder.glob("*.so*")).splitlines():
        fields = line.split()
        if len(fields) > 7 and fields[6] == "UND":
            name, _, version = fields[7].partition("@")
            if library := _owner(name):
                symbols[library][version].add((name, fields[3]))
    return symbols


def _owner(name: str) -> str | None:
    return next((library for library, prefix in _PREFIXES.items() if re.match(prefix, name)), None)


def _compile(target: Path, symbols: dict[str, set[tuple[str, str]]]) -> None:
    lines, versions = [], []
    for version, entries in symbols.items():
        lines += [_definition(name, kind) for name, kind in sorted(entries)]
        if version:
            versions.append(f"{version} {{ global: {'; '.join(name for name, _ in sorted(entries))}; }};")
    with tempfile.TemporaryDirectory() as name:
        source, script = Path(name, "empty.c"), Path(name, "versions.map")
        source.write_text("\n".join(lines))
        script.write_text("\n".join(versions))
        flags = ["-shared", "-fPIC", "-fno-builtin", f"-Wl,-soname,{target.name}"]
        if versions:
            flags.append(f"-Wl,--version-script,{script}")
        subprocess.run(["gcc", *flags, "-o", target, source], check=True)


def _definition(name: str, kind: str) -> str:
    if kind == "OBJECT":
        return f"long {name}[64];"
    if _WORDS.fullmatch(name):
        return f'const char *{name}(void) {{ return "there is no CUDA in this image"; }}'
    return f"int {name}(void) {{ return {_NO_DEVICE}; }}"


def _readelf(option: str, *files: Path) -> str:
    command: list[str | Path] = ["readelf", "--wide", option, *files]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


if __name__ == "__main__":
    main()

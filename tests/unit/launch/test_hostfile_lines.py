"""The hostfile, in DeepSpeed's format."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.hostfile import Hostfile

pytestmark = pytest.mark.slow

_NAME = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True)
_hosts = st.lists(st.tuples(_NAME, st.integers(1, 99)), min_size=1, max_size=8, unique_by=lambda pair: pair[0])


@given(_hosts)
def test_what_is_rendered_is_read_back_and_every_rank_has_its_host(pairs: list[tuple[str, int]]) -> None:
    hostfile = Hostfile.of(pairs)
    assert Hostfile.parse(hostfile.render()) == hostfile
    assert [host.name for host in hostfile.hosts for _ in host.ranks] == [
        hostfile.host_of_rank(rank).name for rank in range(hostfile.world_size)
    ]


@given(_hosts)
def test_deepspeed_reads_it_alike(pairs: list[tuple[str, int]]) -> None:
    # The expression of deepspeed/launcher/runner.py, whose import would bring torch.
    lines = Hostfile.of(pairs).render().splitlines()
    assert [(m[1], int(m[2])) for line in lines if (m := re.search(r"^(\S+)\s+slots=(\d+)", line))] == pairs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "hostfile names no host"),
        ("# only a comment\n\n", "hostfile names no host"),
        ("a slots=1\na slots=2\n", "hostfile names 'a' twice"),
        ("a slots=0\n", "hostfile:1: 'a slots=0' is not NAME slots=N"),
        ("a slots=1\n\nb\n", "hostfile:3: 'b' is not NAME slots=N"),
        ("a b slots=1\n", "hostfile:1: 'a b slots=1' is not NAME slots=N"),
    ],
)
def test_bad_hostfiles(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Hostfile.parse(text)
    assert raised.value.message == message
    assert raised.value.hint


def test_a_pod_finds_itself_by_the_first_label_of_its_name() -> None:
    """A pod calls itself `JOB-INDEX`; its peers know it by the name its headless Service gives it."""
    hostfile = Hostfile.of((f"cwe-a1-{index}.ftj-cwe.research.svc", 4) for index in range(12))
    for index in range(12):
        assert hostfile.host(f"cwe-a1-{index}").ranks == range(4 * index, 4 * index + 4)
    assert hostfile.host("cwe-a1-1.ftj-cwe.research.svc").name == "cwe-a1-1.ftj-cwe.research.svc"
    with pytest.raises(ConfigurationError, match="this host is 'cwe-a0-1', but the hostfile names cwe-a1-0"):
        hostfile.host("cwe-a0-1")

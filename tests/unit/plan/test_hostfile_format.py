"""The hostfile: what is written is read back; what is wrong is named by line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerotune_trainer.errors import ConfigurationError
from zerotune_trainer.hostfile import Host, Hostfile

names = st.from_regex(r"\A[a-z0-9]([-a-z0-9.]{0,20}[a-z0-9])?\Z")
hosts = st.lists(st.tuples(names, st.integers(min_value=1, max_value=64)), min_size=1, unique_by=lambda host: host[0])


@pytest.mark.slow
@given(hosts)
def test_what_is_written_is_read_back(pairs: list[tuple[str, int]]) -> None:
    hostfile = Hostfile.of(pairs)
    assert Hostfile.parse(hostfile.render()) == hostfile


@pytest.mark.slow
@given(hosts)
def test_ranks_are_numbered_without_gap_in_the_order_of_the_hosts(pairs: list[tuple[str, int]]) -> None:
    hostfile = Hostfile.of(pairs)
    assert [rank for host in hostfile.hosts for rank in host.ranks] == list(range(hostfile.world_size))
    assert [hostfile.host_of_rank(host.first_rank) for host in hostfile.hosts] == list(hostfile.hosts)
    assert hostfile.master == Host(*pairs[0], first_rank=0)


def test_comments_and_blank_lines_are_skipped() -> None:
    text = "# workers\n\na slots=2   # the first\n  b   slots=1  \n"
    assert Hostfile.parse(text) == Hostfile.of([("a", 2), ("b", 1)])


WRONG = [
    ("", "hostfile names no host"),
    ("# nothing\n", "hostfile names no host"),
    ("a slots=1\na slots=2\n", "hostfile names 'a' twice"),
    ("a slots=1\nb\n", "hostfile:2: 'b' is not NAME slots=N"),
    ("a slots=0\n", "hostfile:1: 'a slots=0' is not NAME slots=N"),
    ("a slots=-1\n", "hostfile:1: 'a slots=-1' is not NAME slots=N"),
    ("a slots=two\n", "hostfile:1: 'a slots=two' is not NAME slots=N"),
    ("\n\na slots = 2\n", "hostfile:3: 'a slots = 2' is not NAME slots=N"),
    ("a slots=2 max_slots=4\n", "hostfile:1: 'a slots=2 max_slots=4' is not NAME slots=N"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_is_wrong_is_named_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Hostfile.parse(text)
    assert caught.value.message == message
    assert caught.value.hint


def test_a_host_is_found_by_its_short_name_too() -> None:
    hostfile = Hostfile.of([("job-a0-0.job.ns.svc", 1), ("job-a0-1.job.ns.svc", 2)])
    assert hostfile.host("job-a0-1") is hostfile.hosts[1]
    with pytest.raises(ConfigurationError, match="this host is 'elsewhere', but the hostfile names job-a0-0"):
        hostfile.host("elsewhere")
    with pytest.raises(ConfigurationError, match="rank 3 is not in a hostfile of 3 ranks"):
        hostfile.host_of_rank(3)

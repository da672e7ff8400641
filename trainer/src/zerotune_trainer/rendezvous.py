"""The rendezvous of an attempt's ranks, and how each knows that the others are of the attempt.

torch's TCPStore asks nobody who they are: whoever reaches its port reads and writes what the ranks do. So before any
collective every rank proves that it knows the attempt's secret, over what all ranks have shown:

    hello of a rank   its hostfile and a number used once, with an HMAC under the secret
    proof of a rank   an HMAC of all hellos, in rank order, under the secret

What the ranks exchange afterwards lies under a name in the store that is made of the secret and the hellos. Who lacks
the secret can still keep ranks apart, as can whoever reaches any of their ports, and neither gloo nor NCCL
encrypts or authenticates what goes over its own connections: a NetworkPolicy is what keeps others away from them.
"""

from __future__ import annotations

import hmac
import json
import secrets
from datetime import timedelta
from hashlib import sha256

import torch.distributed as dist
from pydantic import ValidationError
from torch.distributed.distributed_c10d import Store

from zerotune_trainer.addresses import listen
from zerotune_trainer.config import Launch, rendezvous_secret
from zerotune_trainer.config.base import Settings
from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import AuthenticationError, ConfigurationError, PeerLostError

_HELLO = "hello of rank {}"
_PROOF = "proof of rank {}"
_SEE_OTHERS = "see why that host or rank did not start, and that the hosts reach each other"
_FOREIGN = (
    "something else than this attempt's ranks reaches the rendezvous port: see that the cluster's network enforces"
    " NetworkPolicies, and who else may read the attempt's secret"
)


class _Hello(Settings):
    """What a rank shows first."""

    hostfile: str
    nonce: str
    code: str = ""
    """HMAC of the rest and the rank."""


def rendezvous(context: RankContext, launch: Launch) -> Store:
    """Find the other ranks: before any work, so that hosts which do not reach each other are found out early.

    Returns:
        The store of the attempt, for all its ranks have proved that they are of it. `init_process_group` needs it.

    Raises:
        PeerLostError: not all ranks joined within `launch.rendezvous_timeout_seconds`.
        AuthenticationError: a process that joined does not know the attempt's secret.
        ConfigurationError: this rank has another hostfile than rank 0.
        InputMissingError: the folder has no secret.
        TemporaryError: the port is in use.
    """
    if context.world_size == 1:
        return dist.HashStore()  # type: ignore[attr-defined]  # Nobody else is to reach it.
    key = rendezvous_secret(context.folder)
    store: Store | None = None
    patience = timedelta(seconds=launch.rendezvous_timeout_seconds)
    place = f"{context.hostfile.master.name}:{launch.master_port}"
    try:
        store = _connect(context, launch.master_port, patience)
        return _Authentication(context, store, key, patience).authenticated()
    except dist.DistNetworkError as error:
        raise PeerLostError(f"rank {context.rank} does not reach rank 0 at {place}: {error}", _SEE_OTHERS) from error
    except dist.DistStoreError as error:
        raise PeerLostError(
            f"{_absent(context, store)} did not join the rendezvous at {place} within {patience.seconds} s", _SEE_OTHERS
        ) from error


def _connect(context: RankContext, port: int, patience: timedelta) -> Store:
    host, first = context.hostfile.master.name, context.rank == 0
    # torch's own server listens on every address: one on a loopback address is to be reached at no other.
    server = listen(host, port, "for the rendezvous").detach() if first else None
    return dist.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=first, timeout=patience, wait_for_workers=False, master_listen_fd=server
    )


class _Authentication:
    """The proofs of all ranks.

    Args:
        context: This rank.
        store: Where they are shown.
        key: The attempt's secret.
        patience: How long others may take.
    """

    def __init__(self, context: RankContext, store: Store, key: bytes, patience: timedelta) -> None:
        self._context, self._store, self._key, self._patience = context, store, key, patience

    def authenticated(self) -> Store:
        """The part of the store that is the attempt's, once every rank has proved to be of it."""
        self._show_hello()
        hellos = "".join(self._hello(rank) for rank in range(self._context.world_size))
        self._set(_PROOF, self._code("proof", str(self._context.rank), hellos))
        for rank in range(self._context.world_size):
            if not hmac.compare_digest(self._get(_PROOF, rank), self._code("proof", str(rank), hellos)):
                raise self._foreign(rank, "proves nothing about what this rank was shown")
        return dist.PrefixStore(self._code("attempt", hellos), self._store)  # type: ignore[attr-defined]

    def _show_hello(self) -> None:
        hello = _Hello(hostfile=self._context.hostfile.render(), nonce=secrets.token_hex(16))
        hello = hello.model_copy(update={"code": self._code_of(hello, self._context.rank)})
        self._set(_HELLO, hello.model_dump_json())

    def _hello(self, rank: int) -> str:
        """What a rank shows.

        Raises:
            AuthenticationError: it does not know the secret.
            ConfigurationError: it is rank 0, and has another hostfile.
        """
        shown = self._get(_HELLO, rank)
        try:
            hello = _Hello.model_validate_json(shown)
        except ValidationError as error:
            raise self._foreign(rank, "shows something else than a rank does") from error
        if not hmac.compare_digest(hello.code, self._code_of(hello, rank)):
            raise self._foreign(rank, "does not know the attempt's secret")
        if rank == 0 and hello.hostfile != (mine := self._context.hostfile.render()):
            raise ConfigurationError(
                f"rank {self._context.rank} on {self._context.host.name} has the hostfile {mine!r}, rank 0 has "
                f"{hello.hostfile!r}",
                "give every host the same folder",
            )
        return shown

    def _code_of(self, hello: _Hello, rank: int) -> str:
        return self._code("hello", str(rank), hello.nonce, hello.hostfile)

    def _code(self, *parts: str) -> str:
        # As JSON, so that no other parts make the same text.
        return hmac.new(self._key, json.dumps(parts).encode(), sha256).hexdigest()

    def _set(self, name: str, text: str) -> None:
        self._store.set(name.format(self._context.rank), text)

    def _get(self, name: str, rank: int) -> str:
        self._store.wait([name.format(rank)], self._patience)
        return str(self._store.get(name.format(rank)).decode(errors="replace"))

    def _foreign(self, rank: int, what: str) -> AuthenticationError:
        host = self._context.hostfile.host_of_rank(rank).name
        return AuthenticationError(f"the process that joined the rendezvous as rank {rank} on {host} {what}", _FOREIGN)


def _absent(context: RankContext, store: Store | None) -> str:
    """The ranks that have not joined: that have not proved to be of the attempt, or shown nothing at all."""
    ranks = range(context.world_size)
    if store is None:
        return "rank 0"
    silent = [rank for rank in ranks if not store.check([_HELLO.format(rank)])]
    absent = silent or [rank for rank in ranks if not store.check([_PROOF.format(rank)])]
    return ", ".join(f"rank {rank} on {context.hostfile.host_of_rank(rank).name}" for rank in absent)

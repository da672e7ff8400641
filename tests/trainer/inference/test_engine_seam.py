"""The seam of engines: what the path asks of one, shown by engines without a model."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from torch.distributed import HashStore

from zerotune_trainer import engines
from zerotune_trainer.config import InferConfig, load_config
from zerotune_trainer.context import RankContext
from zerotune_trainer.errors import InternalError
from zerotune_trainer.hostfile import Hostfile
from zerotune_trainer.infer import generate_and_write
from zerotune_trainer.inference.engine import Completion, ModelReplica, OnToken, Request
from zerotune_trainer.progress import Reporter

RANKS = 4


class Ranks:
    """Ranks that are threads."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(RANKS, timeout=60)
        self.values: list[Any] = [None] * RANKS

    def group(self, rank: int) -> Any:
        return _Member(self, rank)


class _Member:
    def __init__(self, ranks: Ranks, rank: int) -> None:
        self.ranks, self.rank = ranks, rank

    def gather(self, value: Any, kind: Any) -> list[Any]:
        self.ranks.values[self.rank] = value
        self.ranks.barrier.wait()
        values = list(self.ranks.values)
        self.ranks.barrier.wait()
        return values

    def on_first_rank(self, action: Callable[[], Any], kind: Any) -> Any:
        return self.gather(action() if self.rank == 0 else None, kind)[0]


@pytest.mark.slow
def test_ranks_of_a_replica_generate_the_same_requests_and_one_writes(
    tmp_path: Path,
    stub_job: Callable[..., Any],
    stub_engine: Any,
    reporter: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two replicas of two ranks; no rank of a replica can go on without the other."""
    seen: dict[int, list[list[int]]] = defaultdict(list)
    together = {leader: threading.Barrier(2, timeout=60) for leader in (0, 2)}

    class PairEngine(stub_engine):  # type: ignore[misc]
        def __init__(self, replica: ModelReplica) -> None:
            self.replica = replica

        @classmethod
        def ranks_per_model_replica(cls, config: InferConfig, world_size: int) -> int:
            return 2

        @classmethod
        def load(cls, config: InferConfig, replica: ModelReplica) -> PairEngine:
            return cls(replica)

        def run(self, requests: Sequence[Request], on_token: OnToken) -> Iterator[Completion]:
            together[self.replica.leader].wait()
            seen[self.replica.rank].append([request.record for request in requests])
            yield from super().run(requests, on_token)

    monkeypatch.setitem(engines.ENGINES, "transformers", PairEngine)
    job, ranks, store, reports = stub_job(20), Ranks(), HashStore(), reporter
    hostfile = Hostfile.parse(f"a slots={RANKS}\n")

    def run(rank: int) -> None:
        context = RankContext(job.folder, hostfile, hostfile.master, rank, cast(Reporter, reports), threading.Event())
        generate_and_write(cast(InferConfig, load_config(job.folder)), context, store, ranks.group(rank))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(RANKS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert seen[0] == seen[1] and seen[2] == seen[3]
    assert sorted(record for requests in seen[0] + seen[2] for record in requests) == list(range(20))
    manifest = json.loads((tmp_path / "output" / "manifest.json").read_text())
    assert manifest["step"] == 20
    writers = {json.loads(line)["rank"] for line in (tmp_path / "output" / "metrics.jsonl").read_text().splitlines()}
    assert writers <= {0, 2}


@pytest.mark.slow
def test_an_engine_that_leaves_out_a_record_is_found_out(
    tmp_path: Path, stub_job: Callable[..., Any], stub_engine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Forgetful(stub_engine):  # type: ignore[misc]
        def run(self, requests: Sequence[Request], on_token: OnToken) -> Iterator[Completion]:
            return super().run([request for request in requests if request.record != 7], on_token)

    monkeypatch.setitem(engines.ENGINES, "transformers", Forgetful)
    with pytest.raises(InternalError, match=r"gave nothing for 1 record: \[7\]"):
        stub_job(20).run()
    assert not (tmp_path / "output" / "manifest.json").exists()


@pytest.mark.parametrize("skips", [True, False])
def test_r52_special_tokens_stay_in_the_text_only_where_asked(
    stub_job: Callable[..., Any], output_rows: Any, skips: bool
) -> None:
    """The stub's texts end with the prompt's first token, which is `<s>`."""
    stub_job(3, generation={"skipSpecialTokens": skips}).run()
    texts = [row["generation"] for row in output_rows()]
    assert [text.endswith("<s>") for text in texts] == [not skips] * 3
    assert all(text.removesuffix("<s>") for text in texts)

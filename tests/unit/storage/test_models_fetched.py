"""A model's folder, whichever store it is in: fetched once, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.storage.hub_server import FILES, TOKEN, HubServer
from zerotune_trainer import storage
from zerotune_trainer.errors import ConfigurationError, InputMissingError
from zerotune_trainer.storage import complete_or_absent

pytestmark = pytest.mark.slow


def fetch(hub: HubServer, uri: str, cache: Path, revision: str | None = None, **environment: str) -> str:
    """Fetch in a process of its own, for the hub's client reads its environment once; the folder, or the error."""
    code = (
        "import sys; from pathlib import Path; from zerotune_trainer.errors import ZerotuneError\n"
        "from zerotune_trainer.storage import local_folder\n"
        "try: print(local_folder(sys.argv[2], Path(sys.argv[1]), sys.argv[3] or None))\n"
        "except ZerotuneError as error: print(type(error).__name__, error)"
    )
    return hub.run(code, cache, uri, revision or "", **environment)


def content(folder: str | Path) -> dict[str, bytes]:
    root = Path(folder)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


WANTED = {name: data for name, data in FILES.items() if not name.startswith("original/")}


def test_r18_d28_a_public_model_comes_from_the_hub_without_a_token(hub: HubServer, cache: Path) -> None:
    assert content(fetch(hub, "hf://org/model", cache)) == WANTED
    assert hub.tokens == {None}


def test_r18_a_private_model_takes_the_token_of_the_environment(hub: HubServer, cache: Path) -> None:
    assert content(fetch(hub, "hf://org/private", cache, HF_TOKEN=TOKEN)) == WANTED
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_r18_weights_that_are_here_are_used_when_the_hub_is_not(hub: HubServer, cache: Path) -> None:
    first = fetch(hub, "hf://org/model", cache)
    hub.stop()
    assert fetch(hub, "hf://org/model", cache) == first
    assert fetch(hub, "hf://org/model", cache, HF_HUB_OFFLINE="1") == first


@pytest.mark.parametrize(
    ("uri", "revision", "message"),
    [
        ("hf://org/private", None, "InputMissingError hf://org/private is not on the hub, or not for this token"),
        ("hf://org/none", None, "InputMissingError hf://org/none is not on the hub"),
        ("hf://org/gated", None, "ConfigurationError hf://org/gated is gated"),
        ("hf://org/model", "nowhere", "InputMissingError hf://org/model has no revision 'nowhere'"),
        ("hf://not a name", None, "InputMissingError hf://not a name is not on the hub"),
    ],
)
def test_what_the_hub_rejects_is_named(
    hub: HubServer, cache: Path, uri: str, revision: str | None, message: str
) -> None:
    assert fetch(hub, uri, cache, revision).startswith(message)


def test_a_hub_that_does_not_answer_is_temporary(hub: HubServer, cache: Path) -> None:
    hub.stop()
    assert fetch(hub, "hf://org/model", cache).startswith("TemporaryError hf://org/model: the hub does not answer")


@pytest.fixture
def stored_model(bucket: str, tmp_path: Path) -> str:
    folder = storage.open_folder(f"s3://{bucket}/models/tiny", tmp_path / "made")
    for name, data in FILES.items():
        (folder.local / name).parent.mkdir(exist_ok=True)
        (folder.local / name).write_bytes(data)
    folder.push(FILES)
    return folder.uri


def test_r18_weights_come_from_the_store_once(stored_model: str, cache: Path) -> None:
    first = storage.local_folder(stored_model, cache)
    assert content(first) == FILES
    inode = (first / "config.json").stat().st_ino
    assert storage.local_folder(stored_model, cache) == first
    assert (first / "config.json").stat().st_ino == inode


def test_a_model_that_changed_in_the_store_is_fetched_again(stored_model: str, cache: Path, tmp_path: Path) -> None:
    first = storage.local_folder(stored_model, cache)
    folder = storage.open_folder(stored_model, tmp_path / "other")
    (folder.local / "config.json").write_bytes(b'{"model_type": "qwen3"}')
    folder.push(["config.json"])
    again = storage.local_folder(stored_model, cache)
    assert again != first and (again / "config.json").read_bytes() == b'{"model_type": "qwen3"}'


def test_a_folder_here_is_used_in_place(tmp_path: Path, cache: Path) -> None:
    assert storage.local_folder(f"file://{tmp_path}", cache) == tmp_path
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("uri", ["file:///no/such/model", "s3://no-such-bucket/model"])
def test_a_model_that_is_nowhere(s3_environment: str, cache: Path, uri: str) -> None:
    with pytest.raises(InputMissingError, match=f"{uri} is not"):
        storage.local_folder(uri, cache)


def test_a_claim_is_not_a_place_of_this_machine(cache: Path) -> None:
    with pytest.raises(ConfigurationError, match="pvc://claim/model"):
        storage.local_folder("pvc://claim/model", cache)


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    folder = tmp_path / "cache/folder"

    def half(draft: Path) -> None:
        (draft / "one").write_text("1")
        raise OSError("disk full")

    def whole(draft: Path) -> None:
        assert list(draft.iterdir()) == []
        (draft / "two").write_text("2")

    with pytest.raises(OSError, match="disk full"):
        complete_or_absent(folder, half)
    assert not folder.exists()
    (tmp_path / "cache/.folder.draft").mkdir()
    (tmp_path / "cache/.folder.draft/left-by-the-dead").write_text("x")
    assert content(complete_or_absent(folder, whole)) == {"two": b"2"}
    assert complete_or_absent(folder, half) == folder

"""Where a model's config.json is read from: a folder, the Hub's cache, the Hub; and what is reported without one."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from zerotune_operator.backends.model_shape import model_shape
from zerotune_trainer.errors import ConfigurationError, InputMissingError, TemporaryError, ZerotuneError
from zerotune_trainer.inspect_model import inspect
from zerotune_trainer.sizing.adapter_config import read_base, recorded_name
from zerotune_trainer.sizing.model_config import model_shape as read_model_shape

CONFIG = Path(__file__).parents[2] / "golden" / "plan" / "models" / "tiny-llama.json"


class Hub(BaseHTTPRequestHandler):
    """Answers like the Hub does: a public, a gated and a broken model."""

    asked: ClassVar[list[tuple[str, str | None]]] = []

    def do_GET(self) -> None:
        token = self.headers.get("Authorization")
        self.asked.append((self.path, token))
        status = self._status(token)
        self.send_response(status)
        self.end_headers()
        if status == 200:
            self.wfile.write(b" " * (5 << 20) if "org/large" in self.path else CONFIG.read_bytes())

    def _status(self, token: str | None) -> int:
        model = self.path.split("/resolve/")[0].strip("/")
        if model == "org/gated":
            return 200 if token == "Bearer good" else 401
        return {"org/public": 200, "org/large": 200, "org/broken": 503}.get(model, 404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (the base class names it so)
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[tuple[str, str | None]]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    for name in ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    Hub.asked.clear()
    yield Hub.asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_folder_is_read_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(CONFIG.read_text())
    assert model_shape(tmp_path.as_uri()).hidden_size == 128


def test_of_a_hub_model_only_config_json_is_fetched(hub: list[tuple[str, str | None]]) -> None:
    assert model_shape("hf://org/public").hidden_size == 128
    assert model_shape("hf://org/public", "v2").hidden_size == 128
    assert hub == [("/org/public/resolve/main/config.json", None), ("/org/public/resolve/v2/config.json", None)]


def test_neither_name_nor_revision_leads_to_another_file(hub: list[tuple[str, str | None]]) -> None:
    assert model_shape("hf://org/public", "../../x/model.bin?").hidden_size == 128
    model_shape("hf://org/public/resolve/main/model.bin?x=")
    assert [path for path, _ in hub] == [
        "/org/public/resolve/..%2F..%2Fx%2Fmodel.bin%3F/config.json",
        "/org/public/resolve/main/model.bin%3Fx%3D/resolve/main/config.json",
    ]


@pytest.mark.usefixtures("hub")
def test_an_answer_that_is_no_config_is_not_read_to_its_end() -> None:
    with pytest.raises(ConfigurationError, match="is larger than 4,194,304 bytes"):
        model_shape("hf://org/large")


def test_a_token_opens_a_gated_model(hub: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputMissingError, match="hf://org/gated is not there, or not yours to read"):
        model_shape("hf://org/gated")
    monkeypatch.setenv("HF_TOKEN", "good")
    assert model_shape("hf://org/gated").hidden_size == 128
    assert hub[-1] == ("/org/gated/resolve/main/config.json", "Bearer good")


def test_a_cached_model_is_not_asked_for(
    hub: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputMissingError) as caught:
        model_shape("hf://org/public")
    assert caught.value.message == (
        f"hf://org/public is not in the cache at {tmp_path / 'hf' / 'hub'}, and HF_HUB_OFFLINE is set"
    )
    folder = tmp_path / "hf" / "hub" / "models--org--public"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc123")
    (folder / "snapshots" / "abc123").mkdir(parents=True)
    (folder / "snapshots" / "abc123" / "config.json").write_text(CONFIG.read_text())
    assert model_shape("hf://org/public") == model_shape("hf://org/public", "abc123")
    assert hub == []


@pytest.mark.usefixtures("hub")
def test_a_hub_that_fails_is_another_matter_than_a_model_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputMissingError, match=r"/org/absent/resolve/main/config\.json is not there"):
        model_shape("hf://org/absent")
    with pytest.raises(TemporaryError, match="503"):
        model_shape("hf://org/broken")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TemporaryError, match="does not answer"):
        model_shape("hf://org/public")


BROKEN = [
    (None, InputMissingError, "config.json is not there"),
    (b"{", ConfigurationError, "config.json is not JSON: "),
    (b"[]", ConfigurationError, "config.json is not a JSON object"),
    (b"\xff\xfe\xff", ConfigurationError, "config.json is not JSON: "),
    (b'{"model_type": "llama"}', ConfigurationError, "config.json: there is no hidden_size"),
    (
        json.dumps(json.loads(CONFIG.read_text()) | {"num_attention_heads": 3}).encode(),
        ConfigurationError,
        "config.json: hidden_size 128 is not a multiple of num_attention_heads 3",
    ),
]


@pytest.mark.parametrize(("content", "kind", "message"), BROKEN)
def test_a_folder_that_holds_no_model_is_named(
    tmp_path: Path, content: bytes | None, kind: type[Exception], message: str
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(kind) as caught:
        model_shape(tmp_path.as_uri())
    assert f"{tmp_path}/{message}" in str(caught.value)


def test_what_only_a_pod_has_mounted_cannot_be_read() -> None:
    with pytest.raises(ConfigurationError) as caught:
        model_shape("pvc://claim/model")
    assert caught.value.message == "the shape of pvc://claim/model cannot be read from here"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("trainer_state.json", "checkpoint"), ("README.md", "it holds config.json")],
)
def test_a_folder_that_is_no_model_says_what_to_give(tmp_path: Path, name: str, hint: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(InputMissingError) as rejected:
        model_shape(f"file://{tmp_path}")
    assert hint in rejected.value.hint


def adapter_of(base: str, folder: Path, kind: str = "LORA") -> str:
    folder.mkdir()
    config = {"peft_type": kind, "base_model_name_or_path": base}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return f"file://{folder}"


def test_an_adapter_has_the_shape_of_its_base(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    shutil.copy(CONFIG, base / "config.json")
    shape = model_shape(adapter_of(str(base), tmp_path / "adapter"))
    assert shape.base_uri == f"file://{base}"
    assert shape.model_copy(update={"base_uri": None, "adapter": None}) == model_shape(f"file://{base}")


def test_an_adapter_of_a_wider_base_is_rejected_before_it_runs(tmp_path: Path) -> None:
    base, folder = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    shutil.copy(CONFIG, base / "config.json")
    uri = adapter_of(str(base), folder)
    hidden = model_shape(f"file://{base}").hidden_size
    for width in (hidden, 2 * hidden):
        name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
        header = json.dumps({name: {"dtype": "F32", "shape": [8, width], "data_offsets": [0, 32 * width]}}).encode()
        (folder / "adapter_model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
        if width == hidden:
            assert model_shape(uri).hidden_size == hidden
    with pytest.raises(ConfigurationError) as rejected:
        model_shape(uri)
    assert f"is for {2 * hidden} inputs of model.layers.0.self_attn.q_proj" in rejected.value.message
    assert f"the base has {hidden}" in rejected.value.message


def test_an_adapter_with_a_rank_that_none_has_is_rejected(tmp_path: Path) -> None:
    base, folder = tmp_path / "base", tmp_path / "adapter"
    base.mkdir()
    shutil.copy(CONFIG, base / "config.json")
    uri = adapter_of(str(base), folder)
    config = json.loads((folder / "adapter_config.json").read_text()) | {"r": "many"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match=r"adapter_config\.json: r is 'many', which no adapter has"):
        model_shape(uri)


def test_the_base_of_an_adapter_is_read_where_its_claim_is_mounted(tmp_path: Path) -> None:
    base = tmp_path / "claims" / "models" / "base"
    base.mkdir(parents=True)
    shutil.copy(CONFIG, base / "config.json")
    (base / "model.safetensors").touch()
    adapter = adapter_of("pvc://models/base", tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_model.safetensors").touch()
    found = inspect(adapter, None, tmp_path / "claims").shape
    assert (found.base_uri, found.layers) == ("pvc://models/base", model_shape(f"file://{base}").layers)


@pytest.mark.parametrize(
    ("base", "kind", "message"),
    [
        ("adapter", "LORA", "neither a model on the Hugging Face Hub nor an absolute path"),
        ("pvc://models/base", "LORA", "the shape of pvc://models/base cannot be read from here"),
        ("ftp://host/base", "LORA", "names the base 'ftp://host/base', which is neither"),
        ("/nowhere", "LORA", "/nowhere/config.json is not there"),
        ("/nowhere", "IA3", "describes an adapter of type 'IA3', not LORA"),
    ],
)
def test_an_adapter_without_a_base_that_can_be_read_is_rejected(
    tmp_path: Path, base: str, kind: str, message: str
) -> None:
    with pytest.raises(ZerotuneError) as rejected:
        model_shape(adapter_of("./" + base if base == "adapter" else base, tmp_path / "adapter", kind))
    assert message in rejected.value.message


def test_adapter_and_base_may_lie_on_s3() -> None:
    files = {
        "s3://models/adapter/adapter_config.json": b'{"peft_type": "LORA", "base_model_name_or_path": "s3://models/base"}',
        "s3://models/base/config.json": CONFIG.read_bytes(),
    }

    def read(uri: str) -> bytes:
        if uri not in files:
            raise InputMissingError(f"{uri} is not there", "")
        return files[uri]

    shape = read_model_shape("s3://models/adapter/", None, read)
    assert shape.base_uri == "s3://models/base"
    assert shape.model_copy(update={"base_uri": None, "adapter": None}) == read_model_shape(
        "s3://models/base", None, read
    )
    with pytest.raises(InputMissingError, match=r"s3://models/other/config\.json is not there"):
        read_model_shape("s3://models/other", None, read)


def test_an_adapter_of_an_adapter_is_rejected(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    shutil.copy(CONFIG, base / "config.json")
    adapter_of(str(base), tmp_path / "first")
    with pytest.raises(ConfigurationError) as rejected:
        model_shape(adapter_of(str(tmp_path / "first"), tmp_path / "second"))
    assert "which is an adapter itself" in rejected.value.message


@pytest.mark.parametrize("uri", ["hf://org/name", "file:///models/base", "s3://bucket/base", "pvc://claim/base"])
def test_a_base_is_found_again_by_the_name_that_is_recorded(uri: str) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": recorded_name(uri)}
    assert read_base(json.dumps(config).encode(), "adapter_config.json").uri == uri

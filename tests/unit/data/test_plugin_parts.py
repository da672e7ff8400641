"""The parts of training that a plug-in defines: what is wrong with one is said with file, function and rule."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from zerotune_trainer import data
from zerotune_trainer.config.plugin import Plugin
from zerotune_trainer.errors import ConfigurationError, InputMissingError, OutOfMemoryError, ZerotuneError
from zerotune_trainer.plugin import PluginError, load_plugin, plugin_digest
from zerotune_trainer.training.plugin_parts import PluginParts
from zerotune_trainer.training.step_state import StepState

OUTPUTS = SimpleNamespace(logits=torch.ones(1, 2, 3, requires_grad=True))
ROWS = [{"input_ids": torch.tensor([1, 2]).numpy(), "labels": torch.tensor([1, 2]).numpy()}]


@pytest.fixture
def make_parts(tmp_path: Path) -> Any:
    """Make the parts of a plug-in with this code."""

    def make(code: str, **names: Any) -> PluginParts:
        (tmp_path / "mine.py").write_text(f"import torch\n{code}\n")
        return PluginParts(Plugin(file=f"file://{tmp_path}/mine.py", **names), StepState(number=4))

    return make


def test_a_job_without_a_plug_in_has_no_parts() -> None:
    parts = PluginParts(None, StepState())
    assert (parts.loss(), parts.collator(), parts.callbacks()) == (None, None, [])


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (
            "def loss(outputs, labels, num_items_in_batch): return 7",
            PluginError,
            "returned a value of type int at step 4",
        ),
        ("def loss(o, l, **k): return o.logits", PluginError, r"returned a tensor of shape \(1, 2, 3\) at step 4"),
        (
            "def loss(o, l, **k): return o.logits.sum().detach()",
            PluginError,
            r"\(\) without a gradient at step 4",
        ),
        (
            "def loss(o, l, **k): return o.nothing",
            PluginError,
            r"mine.py:loss failed at step 4: Attr.* \(line 2\)",
        ),
        ("def loss(o, l, **k): raise MemoryError", OutOfMemoryError, "."),
        (
            "def loss(o, l, **k): exit(0)",
            ConfigurationError,
            r"mine.py:loss failed at step 4: SystemExit: 0 \(line 2\)",
        ),
    ],
)
def test_a_loss_that_fails_is_named_with_its_step(
    make_parts: Any, code: str, error: type[ZerotuneError], message: str
) -> None:
    loss = make_parts(code, compute_loss_func="loss").loss()
    with pytest.raises(error, match=message):
        loss(OUTPUTS, torch.ones(1, 2), num_items_in_batch=2)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("7", "returned a value of type int at step 4"),
        ("{'input_ids': torch.ones(1, 2).long()}", "returned a value of type NoneType as labels"),
        ("{name: torch.ones(1, 2) for name in ('input_ids', 'labels')}", r"shape \(1, 2\).* as input_ids"),
        ("{name: torch.ones(3, 2).long() for name in ('input_ids', 'labels')}", r"shapes \[\(3, 2\)\] for 1 row"),
    ],
)
def test_a_batch_that_is_none_is_described(make_parts: Any, returned: str, message: str) -> None:
    collate = make_parts(f"def collate(rows): return {returned}", data_collator="collate").collator()
    with pytest.raises(PluginError, match=message):
        collate(ROWS)


@pytest.mark.parametrize(
    ("code", "names", "error", "message"),
    [
        ("def los(o, l): pass", {"compute_loss_func": "loss"}, InputMissingError, "defines no 'loss'"),
        (
            "loss = 7",
            {"compute_loss_func": "loss"},
            ConfigurationError,
            "mine.py:loss cannot be called: it is of type int",
        ),
        ("def loss(o, l): pass", {"compute_loss_func": "loss"}, ConfigurationError, "unexpected keyword.*num_items"),
        ("def collate(a, b): pass", {"data_collator": "collate"}, ConfigurationError, "missing a required argument"),
        ("class Watch: pass", {"callbacks": ["Watch"]}, ConfigurationError, "Watch is no class derived from"),
    ],
)
def test_what_cannot_be_called_so_is_rejected_when_it_is_loaded(
    make_parts: Any, code: str, names: dict[str, Any], error: type[ZerotuneError], message: str
) -> None:
    with pytest.raises(error, match=message):
        make_parts(code, **names)


def test_a_callback_may_return_nothing_but_a_control(make_parts: Any) -> None:
    code = "import transformers\nclass Watch(transformers.TrainerCallback):\n  def on_log(self, *a, **k): return 7"
    (callback,) = make_parts(code, callbacks=["Watch"]).callbacks()
    with pytest.raises(PluginError, match=r"Watch.on_log returned int at step 9"):
        callback.on_log(None, SimpleNamespace(global_step=9), None)


def test_the_content_counts_where_it_changes_the_training(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    digests = set()
    for code in ("def f(record): return record", "def f(record): return dict(record)"):
        path.write_text(code)
        digests.add(plugin_digest(Plugin(file=f"file://{path}", callbacks=["f"])))
        assert plugin_digest(Plugin(file=f"file://{path}", processing="f")) is None
    assert len(digests) == 2 and plugin_digest(None) is None and load_plugin(None) is None


@pytest.mark.parametrize(
    ("returned", "expected"), [("'b'", "<s>b</s>"), ("[{'role': 'user', 'content': 'b'}]", "user")]
)
def test_a_formatting_function_makes_text_or_messages(
    make_config: Any, tokenizer: Any, tmp_path: Path, returned: str, expected: str
) -> None:
    """After `processing`."""
    code = (
        f"def up(record): return {{'c': 'b'}}\ndef text(record):\n  assert record == {{'c': 'b'}}\n  return {returned}"
    )
    (tmp_path / "mine.py").write_text(code)
    plugin = {"file": f"file://{tmp_path}/mine.py", "processing": "up", "formattingFunc": "text"}
    row = data.prepare(make_config([{"a": 1}], plugin=plugin), tokenizer).train[0]
    assert expected in tokenizer.decode(row["input_ids"])

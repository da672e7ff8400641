"""Bytes that a forward pass keeps for its backward pass. Torch-free and pure.

Counted by token, with h the hidden size, f the width of the MLP, q and kv those of queries and of keys, a the heads,
s the length of a row, V the vocabulary and L the layers. A layer keeps c_h h + c_f f + c_q q + c_kv kv + c_a a bytes;
the coefficients of an architecture were measured as the tensors that autograd saves, and a test measures them again.
After "Reducing Activation Recomputation in Large Transformer Models" (arXiv 2205.05198), whose 34 h is that of a GPT.

    kept          without gradient checkpointing every layer, 10 h outside of them, and the logits at the same time;
                  with it 2 h a layer, and the larger of logits and one recomputed layer with its gradients
    logits        12 V: logits, their fp32 copy and its gradient. Where they are made in tiles, as in every evaluation:
                  4 h V in all for the gradient of a head that is trained, and the tile: in fp32 4 V for each of 128
                  tokens; else 32 bytes for each of 1024 tokens and 4096 of the vocabulary
    mask          s (1 + w L) where rows are padded or packed: sdpa makes of the mask of 1 byte one of numbers in
                  every layer. Grouped keys and values are copied once for each of their queries then: 2 w (q - kv).
    eager         6 a s bytes more, in fp32 4 a s: scores and their softmax; one mask of numbers
"""

from __future__ import annotations

from typing import NamedTuple

from zerotune_trainer.sizing.families import EAGER_ONLY, Coefficients, layer_coefficients
from zerotune_trainer.sizing.kv_cache import kv_cache_bytes
from zerotune_trainer.sizing.workload import Workload

_LIGER = Coefficients(8, 6, 4, 4, 4)
_LOGITS = 12


class Activations(NamedTuple):
    """Bytes at the moment of the backward pass that takes most."""

    layers: int
    logits: int


def activations(workload: Workload) -> Activations:
    """What the forward pass of one micro batch keeps."""
    hidden, tokens, width = workload.shape.hidden_size, workload.tokens, workload.width
    head = _head_bytes(workload)
    if not workload.gradient_checkpointing:
        kept = layer_bytes(workload) * workload.shape.layers + 5 * width * tokens * hidden
        return Activations(kept + _mask_of_one_byte(workload), head)
    kept = width * hidden * workload.shape.layers * tokens + _mask_of_one_byte(workload)
    recomputed = layer_bytes(workload) + _gradients_in_flight(workload)
    head += 4 * width * hidden * tokens
    return Activations(kept, head) if head > recomputed else Activations(kept + recomputed, 0)


def evaluation_bytes(workload: Workload) -> int:
    """What the forward pass of an evaluation takes, which keeps nothing: one layer at work, or a tile of the logits.

    Where texts are generated, keys and values are kept: prompts are taken to be as long as the rows of training.
    """
    if not workload.evaluation_batch:
        return 0
    of_evaluation = workload.model_copy(update={"micro_batch": workload.evaluation_batch})
    return max(layer_bytes(of_evaluation), _tile_bytes(of_evaluation)) + _kv_cache(workload)


def _kv_cache(workload: Workload) -> int:
    texts = workload.generated
    if texts is None:
        return 0
    sequences = min(workload.evaluation_batch, texts.prompts) * texts.beams
    return kv_cache_bytes(workload.shape, workload.precision, sequences, workload.sequence_length + texts.tokens)


def layer_bytes(workload: Workload) -> int:
    """What one decoder layer keeps of a micro batch, its mask included."""
    shape, width = workload.shape, workload.width
    by_token = _coefficients(workload).of(
        shape.hidden_size, _mlp(workload), _queries(workload), shape.kv_size, shape.heads
    )
    # A token that goes to k experts is gathered and scattered k times.
    by_token += 2 * width * shape.hidden_size * shape.experts_per_token
    return round((by_token + _attention_bytes(workload)) * workload.tokens)


def _coefficients(workload: Workload) -> Coefficients:
    if workload.liger_kernel:
        return _LIGER
    return layer_coefficients(workload.shape.architecture, fp32=workload.precision == "fp32")


def _mlp(workload: Workload) -> int:
    return workload.shape.mlp_size or 4 * workload.shape.hidden_size


def _queries(workload: Workload) -> int:
    return workload.shape.query_size or workload.shape.hidden_size


def _gradients_in_flight(workload: Workload) -> int:
    """Gradients of a layer's widest results in its backward pass: 2 h + 4 f at 2 bytes a number."""
    by_token = workload.shape.hidden_size + 2 * _mlp(workload)
    return workload.width * by_token * workload.tokens


def is_eager(workload: Workload) -> bool:
    """Whether the scores of attention are computed one by one."""
    only = workload.shape.architecture in EAGER_ONLY and workload.attention != "flash_attention_2"
    return workload.attention == "eager" or only


def _attention_bytes(workload: Workload) -> float:
    """Bytes a token and layer that depend on the row's length, or on the mask."""
    shape, width, length = workload.shape, workload.width, workload.sequence_length
    if is_eager(workload):
        return (4 if workload.precision == "fp32" else 6) * shape.heads * length
    if not _has_mask(workload):
        return 0
    copied = 0 if shape.architecture == "falcon" else max(0, _queries(workload) - shape.kv_size)
    return width * length + 2 * width * copied


def _has_mask(workload: Workload) -> bool:
    # Falcon makes a mask of its own, whatever the rows are.
    return workload.attention != "flash_attention_2" and (workload.masked or workload.shape.architecture == "falcon")


def _mask_of_one_byte(workload: Workload) -> int:
    """The mask as it is made, once for all layers; that of eager attention is one of numbers."""
    if not _has_mask(workload):
        return 0
    width = workload.width if is_eager(workload) else 1
    return width * workload.tokens * workload.sequence_length


def _head_bytes(workload: Workload) -> int:
    shape = workload.shape
    if workload.tiled_logits:
        # The gradient of the head is summed up in fp32.
        return 4 * min(workload.trained, shape.vocab_size * shape.hidden_size) + _tile_bytes(workload)
    return _LOGITS * shape.vocab_size * workload.tokens


def _tile_bytes(workload: Workload) -> int:
    """What is there of the logits at once."""
    if workload.precision == "fp32":
        return 4 * workload.shape.vocab_size * min(workload.tokens, 128)
    return 32 * min(workload.shape.vocab_size, 4096) * min(workload.tokens, 1024)

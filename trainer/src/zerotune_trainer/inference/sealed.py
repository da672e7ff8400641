"""Text under a line with its sha256, so that who reads it knows it to be what was written."""

from __future__ import annotations

import hashlib


def seal(text: bytes) -> bytes:
    """The text with its digest."""
    return hashlib.sha256(text).hexdigest().encode() + b"\n" + text


def unseal(content: bytes) -> bytes | None:
    """The text that was given to `seal`; None where the content is not what that gave."""
    digest, _, text = content.partition(b"\n")
    return text if hashlib.sha256(text).hexdigest().encode() == digest else None

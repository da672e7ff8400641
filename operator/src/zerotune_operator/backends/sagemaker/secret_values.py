"""Names and values that look like secrets: whoever may describe a training job reads what its request has. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType

_NAME = re.compile(
    r".*(TOKEN|SECRET.*|PASSW(OR)?D.*|API_?KEY|ACCESS_?KEY(_?ID)?|PRIVATE_?KEY)",
    re.IGNORECASE,
)
_OF_FILES = re.compile(r".*_FILE", re.IGNORECASE)
"""Such a variable names a file that holds the secret: AWS_WEB_IDENTITY_TOKEN_FILE."""
PATTERNS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "a URL with a password": re.compile(r"://[^/\s]*:[^/\s]*@"),
        "an access key of AWS": re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
        "a token of Hugging Face": re.compile(r"\b(hf|api_org)_[A-Za-z0-9]{20}"),
        "a token of GitHub": re.compile(r"\b(gh[oprsu]_[A-Za-z0-9]{20}|github_pat_[A-Za-z0-9_]{20})"),
        "a token of GitLab": re.compile(r"\bgl(pat|dt|rt|cbt|ptt)-[\w-]{20}"),
        "a token of Slack": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10}|\bhooks\.slack\.com/services/\w"),
        "a token of Docker": re.compile(r"\bdckr_(pat|oat)_[\w-]{20}"),
        "a key of OpenAI or Anthropic": re.compile(r"\bsk-((proj|svcacct|admin|ant|or)-[\w-]{20}|[A-Za-z0-9]{20})"),
        "a key of Google": re.compile(r"\bAIza[\w-]{35}"),
        "a private key": re.compile(r"-----BEGIN ([A-Z0-9]+ )*PRIVATE KEY"),
        "a JSON Web Token": re.compile(r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"),
    }
)
"""What secrets look like that can be known by their beginning or form, by what they are."""
_SECRET_ACCESS_KEY = re.compile(r"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_CHANGES_OF_A_RANDOM_TEXT = 14
"""How often characters of base64 that are chosen at random change their kind at least, in 40 of them: 25 times on
average. In words and paths they do so seldom, and a digest in hexadecimal has one case."""


def is_name_of_secret(name: str) -> bool:
    """Whether what has this name is a secret, as `HF_TOKEN`."""
    return _NAME.fullmatch(name) is not None and not _OF_FILES.fullmatch(name)


def secret_in(value: str) -> str | None:
    """What secret a value seems to hold: `a token of GitHub`. None: it seems to hold none."""
    if any(_is_random(found) for found in _SECRET_ACCESS_KEY.findall(value)):
        return "a secret access key of AWS"
    return next((name for name, pattern in PATTERNS.items() if pattern.search(value)), None)


def _is_random(text: str) -> bool:
    """Whether a text has upper and lower case and digits, mixed as chance would have it."""
    kinds = [_kind(character) for character in text]
    changes = sum(1 for before, after in pairwise(kinds) if before != after)
    return {"upper", "lower", "digit"} <= set(kinds) and changes >= _CHANGES_OF_A_RANDOM_TEXT


def _kind(character: str) -> str:
    if character.isdigit():
        return "digit"
    if character.isalpha():
        return "upper" if character.isupper() else "lower"
    return "other"

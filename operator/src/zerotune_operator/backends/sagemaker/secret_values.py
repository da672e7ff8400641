"""Names and values that look like secrets: whoever may describe a training job reads what its request has. Pure."""

from __future__ import annotations

import re

_NAME = re.compile(r".*(TOKEN|SECRET.*|PASSWORD.*|_API_KEY)|AWS_SECRET_ACCESS_KEY|AWS_ACCESS_KEY_ID", re.IGNORECASE)
_OF_FILES = re.compile(r".*_FILE", re.IGNORECASE)
"""Such a variable names a file that holds the secret: AWS_WEB_IDENTITY_TOKEN_FILE."""
_VALUE = re.compile(
    r"""
      ://[^/\s]*:[^/\s]*@                                                    # a URL with a password
    | \bhf_[A-Za-z0-9]{20}                                                   # a token of the Hugging Face Hub
    | \b(AKIA|ASIA)[A-Z0-9]{16}\b                                            # an access key of AWS
    | \b(gh[oprsu]_[A-Za-z0-9]{20}|github_pat_[A-Za-z0-9_]{20}|glpat-[\w-]{20})  # a token of GitHub or GitLab
    | \bsk-[A-Za-z0-9_-]{20}                                                 # a key of OpenAI or Anthropic
    | -----BEGIN[ ]([A-Z0-9]+[ ])*PRIVATE[ ]KEY                              # a private key (PEM)
    | \beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*                 # a JSON Web Token
    """,
    re.VERBOSE,
)


def is_name_of_secret(name: str) -> bool:
    """Whether what has this name is a secret, as `HF_TOKEN`."""
    return _NAME.fullmatch(name) is not None and not _OF_FILES.fullmatch(name)


def is_secret(value: str) -> bool:
    """Whether a value looks like a token, a key or a URL with a password."""
    return _VALUE.search(value) is not None

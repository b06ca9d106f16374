"""Declarations: what a user writes down in YAML or in the environment, read strictly.

Here is what every declaration shares: its base model, a sentence for what a key allows, and what is
wrong with one, key by key. Plain Pydantic; which declarations there are is said where they belong.
"""

from mlops_assets.declaration.allowed import allowed_values, did_you_mean
from mlops_assets.declaration.model import Declared
from mlops_assets.declaration.problems import (
    Key,
    Problem,
    choose_key,
    find_problems,
    key_path,
    scalars,
    unknown_key,
)
from mlops_assets.declaration.secrets import without_secrets

__all__ = [
    "Declared",
    "Key",
    "Problem",
    "allowed_values",
    "choose_key",
    "did_you_mean",
    "find_problems",
    "key_path",
    "scalars",
    "unknown_key",
    "without_secrets",
]

"""Declarations: what a user writes down in YAML or in the environment, read strictly.

Here is what every declaration shares: its base model, a sentence for what a key allows, and what is
wrong with one, key by key. Plain Pydantic; which declarations there are is said where they belong.
"""

from mlops_assets.declaration.allowed import allowed_values, did_you_mean
from mlops_assets.declaration.model import Declared, UnreadableError, constraint, judge
from mlops_assets.declaration.problem import Key, Problem, key_path, unknown_key, unknown_name
from mlops_assets.declaration.problems import choose_key, find_problems, scalars
from mlops_assets.declaration.readable import readable_part
from mlops_assets.declaration.secrets import without_secrets

__all__ = [
    "Declared",
    "Key",
    "Problem",
    "UnreadableError",
    "allowed_values",
    "choose_key",
    "constraint",
    "did_you_mean",
    "find_problems",
    "judge",
    "key_path",
    "readable_part",
    "scalars",
    "unknown_key",
    "unknown_name",
    "without_secrets",
]

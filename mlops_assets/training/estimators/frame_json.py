"""A few rows of features as JSON values, for a manifest."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.training.dataset import FeatureSchema

if TYPE_CHECKING:
    import pandas as pd


def frame_values(frame: "pd.DataFrame", schema: FeatureSchema) -> dict[str, list[Any]]:
    """Return each feature's values: texts, or numbers with None for NaN."""
    return {
        name: [str(text) for text in frame[name]]
        if name in schema.categorical
        else [None if np.isnan(value) else float(value) for value in frame[name]]
        for name in schema.names
    }


def frame_from(values: Mapping[str, list[Any]], schema: FeatureSchema) -> "pd.DataFrame":
    """Return the frame that `frame_values` described."""
    import pandas as pd

    return pd.DataFrame(
        {
            name: pd.Categorical(values[name])
            if name in schema.categorical
            else np.array(values[name], dtype=np.float32)
            for name in schema.names
        }
    )

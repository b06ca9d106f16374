"""The component that turns a declared model family into assets.

From one declaration come, in a group of their own: the training set; for each candidate the search
of its parameters, if one is declared, and the trained model; the evaluation that compares them; the
challenger with its explanation and model card; and the champion that the gate let through.
"""

from mlops_assets.orchestration.model_family.component import ModelFamilyAssets

__all__ = ["ModelFamilyAssets"]

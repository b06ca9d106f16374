"""The model card: what must be known of a model version, generated from what its run recorded.

Import from here. A card is a value (`ModelCard`) that renders itself to HTML and Markdown; it is
kept as JSON beside them, so that what happens to the version later is added without computing
anything again.
"""

from mlops_assets.registry.card.building import build_card, judged, require_complete
from mlops_assets.registry.card.content import CardIncompleteError, ModelCard, SearchSummary
from mlops_assets.registry.card.keeping import FOLDER, attach_card, read_card, write_card
from mlops_assets.registry.card.origin import summarise_search

__all__ = [
    "FOLDER",
    "CardIncompleteError",
    "ModelCard",
    "SearchSummary",
    "attach_card",
    "build_card",
    "judged",
    "read_card",
    "require_complete",
    "summarise_search",
    "write_card",
]

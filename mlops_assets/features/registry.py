"""The feature registry: every feature view of a dbt project, findable by name and by meaning."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from mlops_assets.features.errors import FeatureViewError, UnknownFeatureError, nearest
from mlops_assets.features.manifest import read_feature_views
from mlops_assets.features.selection import Selection
from mlops_assets.features.view import FeatureView

_WORD = re.compile(r"[^\W_]+")
_MISSPELT = 0.8  # similarity from which two words count as one, misspelt


@dataclass(frozen=True)
class SearchHit:
    """A feature or a feature view that a search found.

    Attributes
    ----------
    view
        Name of the feature view.
    feature
        Name of the feature; None where the view itself was found.
    description
        Of the feature, or of the view.
    score
        How well it fits; only the order of the hits of one search means anything.
    """

    view: str
    feature: str | None
    description: str
    score: float


@dataclass(frozen=True)
class FeatureRegistry:
    """Feature views by name.

    Attributes
    ----------
    views
        All of them.

    Raises
    ------
    FeatureViewError
        If two have the same name.
    """

    views: tuple[FeatureView, ...]

    def __post_init__(self) -> None:
        names = [view.name for view in self.views]
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise FeatureViewError(f"feature views are named twice: {', '.join(twice)}. Rename one")

    @classmethod
    def from_manifest(cls, manifest: str | Path | Mapping[str, Any]) -> "FeatureRegistry":
        """Read the registry from a dbt manifest; see `read_feature_views`.

        Parameters
        ----------
        manifest
            Path of ``manifest.json``, or its content.

        Raises
        ------
        FeatureViewError
            Listing everything that is wrong with any of the declarations.
        """
        return cls(read_feature_views(manifest))

    def view(self, name: str) -> FeatureView:
        """Return a feature view by name.

        Raises
        ------
        UnknownFeatureError
            With the nearest name, if there is none of this name.
        """
        for view in self.views:
            if view.name == name:
                return view
        raise UnknownFeatureError(
            f"no feature view {name!r}; {nearest(name, (view.name for view in self.views))}"
        )

    def select(
        self,
        view: str,
        features: Iterable[str] | None = None,
        *,
        entity: Mapping[str, str] | None = None,
        prefix: str = "",
    ) -> Selection:
        """Choose features of a view by name; see `FeatureView.select`.

        Raises
        ------
        UnknownFeatureError
            If the view, a feature or an entity column does not exist.
        PointInTimeJoinError
            If a feature or entity column is named twice.
        """
        return self.view(view).select(features, entity=entity, prefix=prefix)

    def search(self, text: str, *, limit: int | None = None) -> tuple[SearchHit, ...]:
        """Find feature views and features by words of their names and descriptions.

        Parameters
        ----------
        text
            Words; a hit matches all of them. Misspelt words are matched with names. No word finds
            everything.
        limit
            Most hits to return.

        Returns
        -------
        tuple of SearchHit
            Best first: names before descriptions, whole words before parts, views before features.
        """
        words = _words(text)
        hits = []
        for view in self.views:
            score = _score(words, name=view.name, description=view.description)
            if score is not None:
                hits.append(SearchHit(view.name, None, view.description, score))
            for feature in view.features:
                score = _score(
                    words,
                    name=feature.name,
                    description=feature.description,
                    context=f"{view.name} {' '.join(view.entity)}",
                )
                if score is not None:
                    hits.append(SearchHit(view.name, feature.name, feature.description, score))
        hits.sort(
            key=lambda hit: (-hit.score, hit.feature is not None, hit.view, hit.feature or "")
        )
        return tuple(hits[:limit])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"feature_views": [view.to_dict() for view in self.views]}


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _score(words: list[str], *, name: str, description: str, context: str = "") -> float | None:
    """How well a name and description fit all ``words``; None where a word fits neither.

    ``context`` helps to find a feature by its view's name, but does not make it a hit alone.
    """
    total, own = 0.0, not words
    for word in words:
        best = max(_name_score(word, name), _description_score(word, description))
        own = own or best > 0
        best = max(best, 1.0 if word in _words(context) else 0.0)
        if not best:
            return None
        total += best
    if words and words == _words(name):
        total += 10.0
    return total if own else None


def _name_score(word: str, name: str) -> float:
    parts = _words(name)
    if word in parts:
        return 8.0
    if word in name.casefold():
        return 5.0
    similar = max((SequenceMatcher(None, word, part).ratio() for part in parts), default=0.0)
    return 2.0 * similar if similar >= _MISSPELT else 0.0


def _description_score(word: str, description: str) -> float:
    parts = _words(description)
    if word in parts:
        return 3.0
    return 1.0 if any(word in part for part in parts) else 0.0

"""Where a model card is kept: beside the run of its model, as HTML, as Markdown, and as JSON."""

import tempfile
from pathlib import Path

from pydantic import ValidationError

from mlops_assets.registry.card.content import ModelCard
from mlops_assets.registry.errors import RegistryError
from mlops_assets.registry.registry import ModelVersion, Registry

FOLDER = "card"
"""Artifact folder of a run in which its card is."""

HTML_FILE, MARKDOWN_FILE, JSON_FILE = "model_card.html", "model_card.md", "model_card.json"


def write_card(card: ModelCard, folder: Path) -> tuple[Path, ...]:
    """Write a card's three files into a folder, which is made if needed; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {
        HTML_FILE: card.to_html(),
        MARKDOWN_FILE: card.to_markdown(),
        JSON_FILE: card.model_dump_json(indent=1),
    }
    for name, text in contents.items():
        draft = folder / f"{name}.part"
        draft.write_text(text, encoding="utf-8")
        draft.replace(folder / name)
    return tuple(folder / name for name in contents)


def attach_card(registry: Registry, card: ModelCard) -> None:
    """Keep a card with the run of its model, in place of an older one."""
    with tempfile.TemporaryDirectory(prefix="mlops-card-") as scratch:
        for path in write_card(card, Path(scratch)):
            registry.attach(card.identity.run_id, path, FOLDER)


def read_card(registry: Registry, version: ModelVersion) -> ModelCard:
    """Read the card of a version.

    Raises
    ------
    RegistryError
        When it has none, or this version of the platform cannot read it.
    """
    from mlflow.exceptions import MlflowException

    with tempfile.TemporaryDirectory(prefix="mlops-card-") as scratch:
        try:
            path = Path(
                registry.client.download_artifacts(version.run_id, f"{FOLDER}/{JSON_FILE}", scratch)
            )
            text = path.read_text(encoding="utf-8")
        except (MlflowException, OSError) as error:
            raise RegistryError(
                f"{version} has no model card ({error}); materialise {version.family}/challenger"
            ) from error
    try:
        return ModelCard.model_validate_json(text)
    except ValidationError as error:
        raise RegistryError(
            f"the card of {version} was written by another version of the platform and cannot be "
            f"read: {error}. Materialise {version.family}/challenger again"
        ) from error

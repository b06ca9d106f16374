"""A model card as one HTML page without a network: light and dark, wide and narrow, printable."""

from mlops_assets.registry.card import layout
from mlops_assets.registry.card.content import Measured, ModelCard


def render_html(card: ModelCard) -> str:
    """Return a card as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("mlops_assets.registry.card"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "kind": lambda value: type(value).__name__,
        "number": layout.number,
        "interval": layout.interval,
        "moment": layout.moment,
        "drawing": lambda picture: Markup(picture.svg),  # noqa: S704  # our own SVG; names in it are escaped by matplotlib
    }
    return environment.get_template("model_card.html.j2").render(
        card=card, it=card.identity, sections=layout.sections(card), tiles=_tiles(card)
    )


def _tiles(card: ModelCard) -> list[tuple[str, Measured, bool]]:
    """Return the numbers for the top of the page, the one that decides first."""
    chosen = [line for line in card.metrics if line.headline]
    chosen.sort(key=lambda line: not line.primary)
    return [(line.title, line.test, line.primary) for line in chosen]

"""The kinds of cells and their colours, the same in every output that a person views."""

from dotsctl.client.results.scene import SCENE_TEXT

COLOURS = {
    "Caption": "#b5651d",
    "Footnote": "#6b7a00",
    "Formula": "#c2185b",
    "List-item": "#00796b",
    "Page-footer": "#607d8b",
    "Page-header": "#5c6bc0",
    "Picture": "#8e24aa",
    "Section-header": "#d32f2f",
    "Table": "#ef6c00",
    "Text": "#1976d2",
    "Title": "#ad1457",
    SCENE_TEXT: "#2e7d32",
}
OTHER = "#757575"
"""The colour of a category that the model made up."""


def colour(category: str) -> str:
    """The colour of a category as ``#rrggbb``."""
    return COLOURS.get(category, OTHER)

"""Finding what was drawn: artists by the name the figure gave them."""

from typing import Any

from matplotlib.artist import Artist
from matplotlib.figure import Figure


def named(figure: Figure, name: str) -> list[Any]:
    """Artists of that name, in the order of the axes."""
    return figure.findobj(lambda artist: artist.get_gid() == name)


def names(figure: Figure, start: str) -> list[str]:
    """Names that begin so, of all artists."""
    found: list[Artist] = figure.findobj(lambda artist: (artist.get_gid() or "").startswith(start))
    return [str(artist.get_gid()) for artist in found]


def legend_texts(figure: Figure) -> list[str]:
    """Texts of all legends, of the figure and its axes."""
    legends = [*figure.legends, *(ax.get_legend() for ax in figure.axes if ax.get_legend() is not None)]
    return [text.get_text() for legend in legends for text in legend.get_texts()]

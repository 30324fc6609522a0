"""The figure of a tap, by its artists."""

import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import reopt


def table(groups: tuple[str, ...] = ("layer 1", "layer 2"), steps: int = 4) -> pd.DataFrame:
    """Readings in closed form; at step 0 the learning rate is read of no group, and memory of the second alone."""
    rows = []
    for k, group in enumerate(groups):
        for step in range(0, 50 * steps, 50):
            known = {
                "learning_rate": np.nan if step == 0 else 0.1 / (1 + step) / (k + 1),
                "secant_rate": 0.09 / (1 + step) / (k + 1),
                "memory": np.nan if step == 0 and k == 0 else 0.9 - 0.1 * k,
                "clipped": 0.01 * k * step / 50,
                "adaptation": -0.5 / (k + 1),
            }
            for quantity, value in known.items():
                spread = (value / 2, 2 * value) if quantity == "learning_rate" else (np.nan, np.nan)
                rows.append((step, group, quantity, value, *spread, 100, "why" if np.isnan(value) else ""))
    columns = ["step", "group", "quantity", "value", "low", "high", "elements", "reason"]
    return pd.DataFrame(rows, columns=columns)


def artists(figure, panel: int) -> dict[str, np.ndarray]:
    return {line.get_gid(): line.get_xydata() for line in figure.axes[panel].get_lines() if line.get_gid()}


def test_every_reading_is_drawn_where_it_is() -> None:
    given = table()
    figure = reopt.tap_figure(given)
    for panel, quantity in enumerate(("learning_rate", "memory", "clipped", "adaptation")):
        for group in ("layer 1", "layer 2"):
            rows = given[(given["quantity"] == quantity) & (given["group"] == group)]
            np.testing.assert_array_equal(artists(figure, panel)[f"{quantity} {group}"], rows[["step", "value"]])
    assert artists(figure, 0)["secant_rate layer 2"].shape == (4, 2)
    assert figure.axes[0].get_yscale() == "log"


def test_a_cross_stands_where_nothing_was_read_of_any_group() -> None:
    figure = reopt.tap_figure(table())
    assert artists(figure, 0)["unread"][:, 0].tolist() == [0]
    assert artists(figure, 1)["unread"].size == 0


@pytest.mark.parametrize("number", [1, 7, 8, 30])
def test_groups_have_colours_of_their_own_and_a_legend_that_fits(number: int) -> None:
    names = tuple(f"layers/{k}/weight" for k in range(number))
    figure = reopt.tap_figure(table(names))
    lines = [line for line in figure.axes[1].get_lines() if str(line.get_gid()).startswith("memory")]
    assert len({line.get_color() for line in lines}) == number
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == [*names[:15], "secant rate"]
    figure.draw_without_rendering()
    assert figure.legends[0].get_window_extent().width <= figure.bbox.width


def test_a_state_is_read_and_an_empty_one_refused() -> None:
    optimizer = reopt.tap(optax.sgd(0.1), every=1)
    state = optimizer.init(jnp.ones(20))
    with pytest.raises(reopt.ReoptError, match="nothing yet"):
        reopt.tap_figure(state)
    _, state = optimizer.update(jnp.linspace(0.1, 1, 20), state)
    np.testing.assert_allclose(artists(reopt.tap_figure(state), 0)["learning_rate parameters"], [[0, 0.1]], rtol=1e-6)

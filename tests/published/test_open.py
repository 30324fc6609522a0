"""OPEN: its layout and its step against plain numpy, and files that are none of its weights."""

import io
import itertools
import pickle
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from reopt.core.errors import ReoptError
from reopt.dynamics.precision import double_precision
from reopt.optimizers.joint import Inputs, Layout, slice_of
from reopt.published import files
from reopt.published.open_rl import DECAYS, OPEN, layer_places, load_open, unpack

SHAPES = ((3, 2), (2,), (2, 1), (1,))
SIZE = 11


def drawn(seed: int = 0, count: int = 1211) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count)


def by_hand(
    flat: np.ndarray, units: int, hidden: int, gradients: np.ndarray, params: np.ndarray, steps: int
) -> np.ndarray:
    """Updates of parameters in `SHAPES`, from slices of the flat vector that are counted out here, in float64."""
    at = 0

    def take(*shape: int) -> np.ndarray:
        nonlocal at
        count = int(np.prod(shape))
        at += count
        return flat[at - count : at].reshape(shape)

    hn_bias = take(units)
    hn, hr, hz = (take(units, units) for _ in range(3))
    n_bias, n_in, r_bias, r_in, z_bias, z_in = (take(*shape) for _ in range(3) for shape in ((units,), (19, units)))
    b0, w0, lb0, ls0 = take(hidden), take(units, hidden), take(hidden), take(hidden)
    b1, w1, lb1, ls1 = take(hidden), take(hidden, hidden), take(hidden), take(hidden)
    b2, w2 = take(3), take(hidden, 3)
    assert at == len(flat)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    places = [0.0] * 8 + [1.0] * 3
    bounds = np.cumsum([0, 6, 2, 2, 1])
    momenta, states, out = np.zeros((SIZE, 6)), np.zeros((SIZE, units)), []
    for step, (g, x) in enumerate(zip(gradients, params, strict=True)):
        for i, decay in enumerate((0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)):
            momenta[:, i] = decay * momenta[:, i] + (1 - decay) * g
        made = np.column_stack(
            [x, np.sign(momenta), np.log(np.abs(momenta) + 1e-13), np.sign(g), np.log(np.abs(g) + 1e-13)]
        )
        for a, b in itertools.pairwise(bounds):
            made[a:b] /= np.sqrt(1e-5 + np.mean(made[a:b] ** 2, axis=0))
        told = np.column_stack([np.full(SIZE, step / (steps - 1)), places, np.zeros(SIZE), np.ones(SIZE)])
        z = np.concatenate([made, told], axis=1)
        reset, keep = sigmoid(z @ r_in + r_bias + states @ hr), sigmoid(z @ z_in + z_bias + states @ hz)
        states = (1 - keep) * np.tanh(z @ n_in + n_bias + reset * (states @ hn + hn_bias)) + keep * states
        y = states
        for w, b, scale, shift in ((w0, b0, ls0, lb0), (w1, b1, ls1, lb1)):
            y = y @ w + b
            y = (y - y.mean(1, keepdims=True)) / np.sqrt(y.var(1, keepdims=True) + 1e-6)
            y = np.maximum(y * scale + shift, 0)
        y = y @ w2 + b2
        u = 1e-3 * y[:, 0] * np.exp(1e-3 * y[:, 1])
        out.append(-(u - u.mean()))
    return np.stack(out)


@pytest.mark.parametrize(("units", "hidden", "count"), [(8, 16, 1211), (16, 32, 3571)])
def test_steps_are_those_of_numpy(units: int, hidden: int, count: int) -> None:
    rng = np.random.default_rng(1)
    gradients, params = rng.normal(size=(2, 7, SIZE)) * np.array([1e-3, 1.0])[:, None, None]
    gradients[3, 2] = 0.0
    flat, layout, found = drawn(2, count), Layout(SHAPES), []
    with double_precision():
        joint = OPEN(unpack(flat, units, hidden))
        state = joint.start(layout, jnp.asarray(params[:1]))
        for step, (g, x) in enumerate(zip(gradients, params, strict=True)):
            inputs = Inputs(jnp.asarray(g[None]), jnp.asarray(x[None]), jnp.ones(1), jnp.asarray(step), 7)
            before = state
            state, updates, context = eqx.filter_jit(joint.step)(layout, state, inputs)
            found.append(np.asarray(updates[0]))
            one = joint.one(slice_of(context, (0, 4)))  # a slice is the run of its parameter
            alone, update = one(before.own[0, 4], inputs.gradient[0, 4])
            np.testing.assert_allclose(update, updates[0, 4], rtol=1e-11, atol=1e-18)
            np.testing.assert_allclose(alone, state.own[0, 4], rtol=1e-12)
    wanted = by_hand(flat, units, hidden, gradients, params, 7)
    np.testing.assert_allclose(np.stack(found), wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())
    assert np.abs(np.stack(found).mean(axis=1)).max() < 1e-17
    assert len(joint.one(None).state_names) == len(DECAYS) + units  # type: ignore[arg-type]


def test_the_layer_of_a_vector_is_that_of_the_matrix_before_it() -> None:
    assert layer_places(Layout(((2, 3), (3,), (3, 4), (4,), (4, 1), (1,)))).tolist() == [0, 0, 0.5, 0.5, 1, 1]
    assert layer_places(Layout(((5,),))).tolist() == [0]


def saved(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


def test_a_file_gives_its_numbers(tmp_path: Path) -> None:
    values = drawn().astype(np.float32)
    found = files.read_weights(saved(tmp_path / "mine.npy", values), "open")
    assert (found.values == values).all()
    assert found.published_as is None
    big = saved(tmp_path / "big.npy", values.astype(">f4"))
    assert (files.read_weights(big, "open").values == values).all()
    assert load_open(saved(tmp_path / "larger.npy", drawn(0, 3571))).units == 16


class Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.path,))


def test_a_pickle_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    plain = tmp_path / "w.npy"
    plain.write_bytes(pickle.dumps(Malicious(mark)))
    with pytest.raises(ReoptError, match="is a pickle, which can run code"):
        load_open(plain)
    stream = io.BytesIO()
    np.save(stream, np.array([Malicious(mark)] * 1211, dtype=object), allow_pickle=True)
    plain.write_bytes(stream.getvalue())
    with pytest.raises(ReoptError, match="not floating-point numbers"):
        load_open(plain)
    plain.write_bytes(pickle.dumps(Malicious(mark), protocol=0))
    with pytest.raises(ReoptError, match="is no npy file"):
        load_open(plain)
    assert not mark.exists()
    pickle.loads(pickle.dumps(Malicious(mark)))
    assert mark.exists()  # it would have


def test_files_that_are_none_say_why(tmp_path: Path) -> None:
    good = saved(tmp_path / "w.npy", drawn()).read_bytes()
    cases = [
        (good[:-8], "is truncated"),
        (good + b"\0" * 8, "is truncated"),
        (good[:20], "header is damaged"),
        (b"", "is no npy file"),
        (b"PK\x03\x04", "is an archive"),
    ]
    for content, words in cases:
        (tmp_path / "bad.npy").write_bytes(content)
        with pytest.raises(ReoptError, match=words):
            load_open(tmp_path / "bad.npy")
    arrays = [
        (drawn(0, 1210), r"shape \(1210,\), but weights of OPEN are 1211 or 3571 numbers"),
        (drawn()[None], r"shape \(1, 1211\)"),
        (np.zeros(1211, int), "not floating-point"),
        (np.full(1211, np.nan), "not finite"),
    ]
    for array, words in arrays:
        with pytest.raises(ReoptError, match=words):
            load_open(saved(tmp_path / "bad.npy", array))
    with pytest.raises(ReoptError, match="there is no file"):
        load_open(tmp_path / "none.npy")
    with pytest.raises(ReoptError, match=r"sha256 .* but the published breakout_OPEN.npy d7f0876c7873"):
        load_open(saved(tmp_path / "breakout_OPEN.npy", drawn()))


def test_a_known_digest_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "mine.npy", drawn())
    digest = files.read_weights(path, "open").sha256
    about = files.known("open")
    about["sha256_begins"]["mine.npy"] = digest[:12]
    monkeypatch.setattr(files, "known", lambda kind: about)
    assert files.read_weights(path, "open").published_as == "mine.npy"


@pytest.mark.long
def test_steps_are_the_same_under_jit() -> None:
    joint, layout = OPEN(unpack(drawn(3), 8, 16)), Layout(SHAPES)
    params = jnp.ones((1, SIZE))
    inputs = Inputs(params, params, jnp.ones(1), jnp.asarray(0), 5)
    state = joint.start(layout, params)
    jitted = jax.jit(lambda state, inputs: joint.step(layout, state, inputs)[1])(state, inputs)
    np.testing.assert_allclose(jitted, joint.step(layout, state, inputs)[1], rtol=1e-4, atol=1e-7)

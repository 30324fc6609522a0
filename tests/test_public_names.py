"""`import reopt`: the public names, what importing them costs in modules, and how results show themselves."""

import ast
import subprocess
import sys
from importlib.resources import files

import optax
import pytest

import reopt
from reopt.mechanisms.registry import mechanisms

SMALL = reopt.Settings(num_steps=20, problems=2, visited_seeds=8, perturbed_seeds=2, gradients=5, evaluation_problems=4)


def stub_names() -> list[str]:
    tree = ast.parse(files("reopt").joinpath("__init__.pyi").read_text())
    return [alias.asname or alias.name for node in tree.body for alias in node.names]


@pytest.mark.parametrize("name", stub_names())
def test_every_public_name_is_there_and_documented(name: str):
    assert name in dir(reopt)
    found = getattr(reopt, name)
    assert isinstance(found, str) or found.__doc__


def test_types_travel_with_the_package():
    assert files("reopt").joinpath("py.typed").is_file()


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import reopt", ("jax", "numpy", "pandas", "matplotlib", "optax", "typer")),
        ("import reopt; reopt.dissect, reopt.diff, reopt.examine, reopt.metatrain", ("matplotlib", "typer")),
    ],
)
def test_nothing_is_imported_before_it_is_used(code: str, absent: tuple[str, ...]):
    check = f"{code}; import sys; print([name for name in {absent!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def dissection() -> reopt.Dissection:
    return reopt.dissect(optax.sgd(0.1, momentum=0.8), reopt.tasks.Quadratic(), SMALL, name="heavy ball")


def test_a_dissection_prints_a_line_a_mechanism(dissection: reopt.Dissection):
    head, *lines = repr(dissection).splitlines()
    assert head == "heavy ball on quadratic"
    assert [line.split()[0] for line in lines] == [one.name for one in mechanisms()]
    assert lines[0].split()[1] == "present"
    assert dissection._repr_html_().count("<tr>") == len(lines)


def test_a_difference_prints_its_answer():
    same = reopt.diff(optax.sgd(0.1), optax.sgd(0.1), reopt.tasks.Quadratic(), SMALL)
    assert same.equal
    assert repr(same).splitlines()[1].startswith("equal to 1e-")


def test_files_that_are_no_optimizers_are_refused():
    with pytest.raises(reopt.ReoptError, match=r"\.safetensors, \.json, \.npz"):
        reopt.load("optimizer.txt")


def test_meta_training_gives_an_optimizer_that_can_be_loaded_again(tmp_path):
    """Two outer steps: enough to see that weights, task and file go together."""
    settings = {"cell": "vanilla", "units": 2, "outer_steps": 2, "num_steps": 5, "problems": 2}
    validation = {"problems": 2, "every": 1, "seed": 0}
    learned = reopt.metatrain(
        reopt.tasks.Quadratic(), **settings, validation=validation, out=tmp_path / "mine.safetensors"
    )
    again = reopt.load(tmp_path / "mine.safetensors")
    one, other = (
        reopt.evaluate(optimizer, reopt.tasks.Quadratic(), problems=4, num_steps=5) for optimizer in (learned, again)
    )
    assert (one.table["meta_objective"] == other.table["meta_objective"]).all()
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]


def test_tuning_finds_a_rate_that_beats_standing_still():
    tuned = reopt.tune(
        "sgd", reopt.tasks.Quadratic(), ranges={"learning_rate": (0.1, 1.0, "log")}, draws=8, problems=8, num_steps=20
    )
    assert tuned.meta_objective < 1
    assert tuned.table["meta_objective"].min() == tuned.meta_objective
    with pytest.raises(reopt.ReoptError, match="no ranges are known for 'sgd'"):
        reopt.tune("sgd", reopt.tasks.Quadratic())

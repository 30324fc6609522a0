"""A lab's cluster and shared remotes, by their scripts against real servers on this machine; two runs at once."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from loopback import CANNOT
from toy_repository import make_toy

HERE = Path(__file__).parent


@pytest.mark.system
@pytest.mark.parametrize("script", ["slurm.py", "s3.py", "ssh.py"])
def test_against_a_real_server(script: str) -> None:
    done = subprocess.run([sys.executable, HERE / script], check=False, capture_output=True, text=True)
    if done.returncode == CANNOT:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"


@pytest.mark.long
def test_two_configs_at_once(tmp_path: Path) -> None:
    toy = make_toy(tmp_path / "toy", {"DVC_SITE_CACHE_DIR": str(tmp_path / "site")})
    toy.set_value("train.pause", 0.2)  # so that the runs overlap
    content = yaml.safe_load((toy.path / "config/laptop.yaml").read_text())
    content["name"] = "study"
    content["tasks"]["a"]["scale"] = 1.7
    (toy.path / "config/study.yaml").write_text(yaml.safe_dump(content))
    for file, before, after in (
        ("pyproject.toml", '["config/laptop.yaml"]', '["config/laptop.yaml", "config/study.yaml"]'),
        ("dvc.yaml", "config: [laptop]", "config: [laptop, study]"),
    ):
        text = (toy.path / file).read_text()
        assert before in text
        (toy.path / file).write_text(text.replace(before, after))
    toy.commit_git("two configs")
    configs = ("config/laptop.yaml", "config/study.yaml")
    runs = [toy.start("snakemake", "--configfile", config) for config in configs]
    assert [run.wait() for run in runs] == [0, 0]
    assert set(toy.lock()) == {
        f"{stage}@{name}" for stage in ("train", "analysis", "figures") for name in ("laptop", "study")
    }
    assert toy.changed() == set()
    for config in configs:
        assert "Nothing to be done" in toy.run("snakemake", "-n", "--configfile", config).stdout
    a, b = (toy.outputs()[f"results/{name}/train/a.npz"] for name in ("laptop", "study"))
    assert a != b

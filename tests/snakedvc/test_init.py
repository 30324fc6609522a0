"""`snakedvc init`: stages for the rules as they are, beside files that keep every byte."""

import subprocess
from pathlib import Path

import pytest
import yaml
from pipeline import Pipeline
from toy_repository import FACTS, FILES

from snakedvc import SnakedvcError
from snakedvc.snakemake_jobs import Job
from snakedvc.starting import find_config, stages_of, start, todo


def job(rule: str, inputs: str, outputs: str, source: str = "", keys: str = "") -> Job:
    code = dict.fromkeys(source.split(), "sha256")
    return Job(rule, (), tuple(inputs.split()), tuple(outputs.split()), frozenset(), code, dict.fromkeys(keys.split()))


def test_a_stage_owns_the_folders_of_its_rule_and_reads_what_its_jobs_read() -> None:
    made = [
        job("train", "data/a.csv", "results/x/train/a.npz", "src/t.py", "steps tasks.a"),
        job("train", "data/b.csv", "results/x/train/b.npz", "src/t.py src/b.py", "steps tasks.b"),
        job("look", "results/x/train/a.npz", "results/x/seen/a.csv"),
        job("count", "results/x/train/b.npz data/b.csv", "results/x/seen/b.csv"),
        job("draw", "results/x/seen/a.csv results/x/seen/b.csv", "results/x/all.svg plots/all.svg"),
    ]
    stages = yaml.safe_load(stages_of(made, "config/x.yaml"))["stages"]
    assert list(stages) == ["train", "look", "count", "draw"]
    outs = {name: [path for out in stage["outs"] for path in out] for name, stage in stages.items()}
    here = "results/${item.config}"
    assert outs["train"] == [f"{here}/train", f"{here}/.records/train.jsonl.gz"]
    assert outs["look"] == [f"{here}/seen/a.csv", f"{here}/.records/look.jsonl.gz"]  # another rule writes there too
    assert outs["draw"] == ["plots/all.svg", f"{here}/all.svg", f"{here}/.records/draw.jsonl.gz"]
    assert stages["train"]["deps"] == ["data/a.csv", "data/b.csv", "src/b.py", "src/t.py"]
    assert stages["train"]["params"] == [{"config/${item.config}.yaml": ["steps", "tasks.a", "tasks.b"]}]
    assert stages["count"]["deps"] == ["data/b.csv", f"{here}/train"]
    assert stages["draw"]["deps"] == [f"{here}/seen/a.csv", f"{here}/seen/b.csv"]
    assert stages["draw"]["cmd"] == "python -m snakedvc make 'config/${item.config}.yaml' draw@${item.config}"
    assert all(settings == {"persist": True} for s in stages.values() for out in s["outs"] for settings in out.values())


@pytest.mark.long
def test_every_byte_that_was_there_stays_and_the_stages_cover_all_jobs(tmp_path: Path) -> None:
    toy = Pipeline(tmp_path / "toy", FACTS, {"DVC_SITE_CACHE_DIR": str(tmp_path / "site")})
    kept = {name: text for name, text in FILES.items() if name != "dvc.yaml"} | {
        "pyproject.toml": '[project]\nname = "toy"\nversion = "1"',  # without a line's end
        "profiles/default/config.yaml": "cores: 1\nrerun-incomplete: true\n",
        ".gitignore": "mine/\nresults/",
    }
    for name, text in kept.items():
        (toy.path / name).parent.mkdir(parents=True, exist_ok=True)
        (toy.path / name).write_text(text)
    said = toy.bridge("init").stdout
    for name, text in kept.items():
        now = (toy.path / name).read_text()
        assert now == text or (now.startswith(text) and f"lines at the end of {name}" in said), name
    assert 'to do: put this at the top of Snakefile:  include: "snakedvc.smk"' in said
    assert "Snakefile has an `onsuccess:` of its own" in said
    assert yaml.safe_load((toy.path / "profiles/default/config.yaml").read_text()) == {
        "cores": 1,
        "rerun-incomplete": True,
        "max-checksum-file-size": 10**12,
    }
    assert (toy.path / ".gitignore").read_text().split() == ["mine/", "results/", ".snakemake/", "__pycache__/"]
    toy.bridge("check")  # each output, input, source and key: exit status 0
    toy.snakemake()
    assert toy.changed() == set()
    stages = yaml.safe_load((toy.path / "dvc.yaml").read_text())["stages"]
    assert stages.keys() == {"train", "record", "analyse", "figure"}


def test_a_folder_inside_a_git_repository_gets_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    Path("Snakefile").write_text("")
    assert next(start()) == "a DVC repository"
    assert not Path(".git").exists()
    assert Path(".dvc/config").is_file()


def test_what_cannot_be_known_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SnakedvcError, match="no Snakefile here"):
        list(start())
    snakefile = Path("Snakefile")
    snakefile.write_text("rule all:\n    input: []\n")
    assert find_config(snakefile) == "config/main.yaml"
    Path("config").mkdir()
    Path("config/a.yaml").write_text("a: 1\n")
    assert find_config(snakefile) == "config/a.yaml"
    Path("config/b.yml").write_text("a: 1\n")
    with pytest.raises(SnakedvcError, match=r"Which of config/a.yaml, config/b.yml .* --config"):
        find_config(snakefile)
    snakefile.write_text('onstart:\n    pass\nif True:\n    configfile: "other/c.yaml"\ninclude: "snakedvc.smk"\n')
    assert find_config(snakefile) == "other/c.yaml"
    assert todo(snakefile) == ["Snakefile has an `onstart:` of its own, which must call snakedvc.note(workflow)"]

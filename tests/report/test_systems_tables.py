"""Tables of what came out for published systems: numbers where they belong, verdicts counted."""

from pathlib import Path

import pandas as pd

from reopt.report.systems import claims_table, mechanisms_table, rivals_table, systems_summary
from reopt.systems.config import load_systems

ROOT = Path(__file__).parents[2]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")]


def test_claims_say_difference_interval_and_verdict() -> None:
    row = {"claim": "S1", "statement": "STAR is better", "difference": -0.06696, "low": -0.0834, "high": -0.0504}
    lines = claims_table(pd.DataFrame([row | {"verdict": "holds"}]))
    assert cells(lines[2]) == ["S1", "STAR is better", "-0.067 [-0.083, -0.050]", "holds"]


def test_rivals_have_their_own_mean_and_the_share_of_problems() -> None:
    row = {"system": "star", "seed": "all", "form": "trained", "measure": "objective", "mean": 0.4, "task": "family"}
    row |= {"low": -0.2, "high": 0.1, "choice": "one"}
    table = pd.DataFrame(
        [
            row | {"against": "adam", "other": 0.45, "difference": -0.05, "better": 0.75},
            row | {"against": "adam", "choice": "each", "other": 0.3, "difference": 0.1, "better": 0.1},
            row | {"against": "star_neither", "choice": "trained", "other": 0.6, "difference": -0.2, "better": 1.0},
            row | {"against": "velo", "choice": "trained", "other": 0.6, "difference": -0.2, "better": 1.0},
        ]
    )
    lines = rivals_table(table, "star", ["star_neither"])
    assert lines[0] == "STAR reaches objective 0.4 over all meta-trainings."
    assert [cells(line) for line in lines[4:]] == [
        ["Adam", "0.45", "-0.050 [-0.200, +0.100]", "75%"],
        ["Adam, best for each", "0.3", "+0.100 [-0.200, +0.100]", "10%"],
        ["neither", "0.6", "-0.200 [-0.200, +0.100]", "100%"],
    ]


def test_verdicts_are_counted_over_meta_trainings(tmp_path: Path) -> None:
    paths = []
    for seed, verdict in enumerate(("present", "undetermined", "present")):
        rows = [("clipping", verdict, f"for {seed}0% of |g|"), ("coupling", "absent", "none")]
        paths.append(tmp_path / f"{seed}.csv")
        pd.DataFrame(rows, columns=["mechanism", "verdict", "why"]).to_csv(paths[-1], index=False)
    lines = mechanisms_table(paths)
    assert [cells(line) for line in lines[2:]] == [
        ["clipping", "2 present, 1 undetermined", "for 00% of ¦g¦"],
        ["coupling", "3 absent", "none"],
    ]


def test_a_system_stands_beside_its_best_rival(tmp_path: Path) -> None:
    content = load_systems(ROOT / "config/systems_smoke.yaml")
    said = systems_summary(content, Path("config/mine.yaml"), tmp_path)
    assert said.endswith("  `snakemake --configfile config/mine.yaml` makes what is missing")
    row = {"seed": "all", "form": "trained", "task": "family", "choice": "one", "better": 0.5}
    rows = []
    for system, measure, differences in (
        ("star", "objective", (-0.2, -0.1)),
        ("hierarchical", "validation", (-0.2, 0.1)),
        ("optim4rl", "score", (0.3, 0.2)),
    ):
        for against, difference in zip(("adam", "nominal"), differences, strict=True):
            row |= {"system": system, "measure": measure, "mean": 0.4, "other": 0.4 - difference, "against": against}
            rows.append(row | {"difference": difference, "low": difference - 0.15, "high": difference + 0.05})
    pd.DataFrame(rows).to_csv(tmp_path / "summary.csv", index=False)
    pd.DataFrame({"verdict": ["holds", "fails", "holds"]}).to_csv(tmp_path / "claims.csv", index=False)
    lines = systems_summary(content, Path("config/mine.yaml"), tmp_path).splitlines()
    assert lines[1:5] == [
        "  STAR (objective 0.4) beats Nominal term (0.5), the best rival",
        "  Hierarchical (validation 0.4) is no better and no worse than Nominal term (0.3), the best rival",
        "  Optim4RL (score 0.4) does not reach Adam (0.1), the best rival",
        "  claims: 2 hold, 1 fail, 0 are undetermined",
    ]

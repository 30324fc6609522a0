"""The pipeline: from a config to figures, claims and report. Each rule is one `reopt` command."""

import os
import sys

from reopt.claims import claims_files
from reopt.config import parse_config, read_yaml
from reopt.errors import ReoptError
from reopt.stages import (
    FIGURES,
    baselines_of,
    claims_stage,
    examined,
    figure_stage,
    is_searched,
    judged,
    learned,
    stage,
)
from reopt.figure_data import figure_files
from snakedvc import guard, record, section, sources

guard(workflow)
if not workflow.overwrite_configfiles:

    configfile: "config/laptop.yaml"


CONFIG = os.path.relpath((workflow.overwrite_configfiles or ["config/laptop.yaml"])[0])
try:
    NAME = parse_config(read_yaml(CONFIG), CONFIG).name
except ReoptError as error:
    sys.exit(f"error: {error}")  # a WorkflowError would add where in this file
if config != read_yaml(CONFIG):
    sys.exit(
        f"error: {CONFIG} must hold the whole config: copy it and change the copy instead of using --config"
    )
R = f"results/{NAME}"
os.environ.update(REOPT_PROGRESS="lines", REOPT_DIE_WITH_PARENT="1")
# Subjects of one kind are examined by the same compiled programs.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath(".reopt/compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


wildcard_constraints:
    task="[a-z][a-z0-9_]*",
    optimizer="[a-z][a-z0-9_]*",
    subject="[a-z][a-z0-9_]*(-s[0-9]+)?",
    seed="[0-9]+",
    baseline="sgd|momentum|rmsprop|adam|adam_decay",


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        expand(f"{R}/figures/{{figure}}.svg", figure=FIGURES),
        f"{R}/claims.csv",
        f"{R}/deviations.csv",


include: "workflow/rules/common.smk"
include: "workflow/rules/metatrain.smk"
include: "workflow/rules/baselines.smk"
include: "workflow/rules/record.smk"
include: "workflow/rules/analysis.smk"
include: "workflow/rules/causes.smk"
include: "workflow/rules/beyond.smk"
include: "workflow/rules/figures.smk"
include: "workflow/rules/costs.smk"
include: "workflow/rules/docs.smk"


onsuccess:
    record(workflow)

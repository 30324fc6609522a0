"""The pipeline: from a config to figures, claims and report. Each rule is one `reopt` command."""

import os
import shlex
import sys

from reopt.cli.warm import announce
from reopt.mechanisms.registry import mechanism_modules
from reopt.pipeline.config import read_yaml
from reopt.pipeline.kept import read_filled_once
from reopt.core.errors import ReoptError
from reopt.optimizers.names import THEORY
from reopt.examination.parts import PARTS, files_of
from reopt.figures.registry import figures
from reopt.pipeline.stages import (
    baselines_of,
    claims_files,
    claims_stage,
    controlled,
    examined,
    figure_files,
    figure_stage,
    is_searched,
    judged,
    learned,
    stage,
)
from snakedvc import SnakedvcError, guard, own, record, section, sources

guard(workflow)
if not workflow.overwrite_configfiles:

    configfile: "config/laptop.yaml"


CONFIG = os.path.relpath((workflow.overwrite_configfiles or ["config/laptop.yaml"])[0])
OF_SYSTEMS = "systems" in config
if OF_SYSTEMS:
    from reopt.systems.config import filled

try:
    WHOLE = (
        filled(read_yaml(CONFIG), CONFIG) if OF_SYSTEMS else read_filled_once(CONFIG)
    )
except ReoptError as error:
    sys.exit(f"error: {error}")  # a WorkflowError would add where in this file
if config != read_yaml(CONFIG):
    sys.exit(
        f"error: {CONFIG} must hold the whole config: copy it and change the copy instead of using --config"
    )
config.update(WHOLE)  # what the file leaves out is its default, for every rule
NAME = config["name"]
R = f"results/{NAME}"
try:
    own(workflow, R, CONFIG)
except SnakedvcError as error:
    sys.exit(f"error: {error}")
os.environ.update(REOPT_PROGRESS="lines", REOPT_DIE_WITH_PARENT="1")
announce()  # the jobs share what they import
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


include: "workflow/rules/common.smk"


if OF_SYSTEMS:

    include: "workflow/rules/systems.smk"

    rule all:
        default_target: True
        input:
            f"{R}/summary.csv",
            f"{R}/claims.csv",
            f"{R}/figures/systems.svg",
            [f"{R}/{file}" for file in systems_stages.read_files(SYSTEMS)],

else:

    rule all:
        default_target: True
        input:
            expand(f"{R}/figures/{{figure}}.svg", figure=figures()),
            [
                f"{R}/{task}/analysis/{subject}/control.csv"
                for task in config["tasks"]
                for subject in controlled(config, task)
            ],
            f"{R}/claims.csv",
            f"{R}/deviations.csv",
            f"{R}/index.html",

    include: "workflow/rules/metatrain.smk"
    include: "workflow/rules/baselines.smk"
    include: "workflow/rules/evaluation.smk"
    include: "workflow/rules/analysis.smk"
    include: "workflow/rules/causes.smk"
    include: "workflow/rules/control.smk"
    include: "workflow/rules/foretell.smk"
    include: "workflow/rules/beyond.smk"
    include: "workflow/rules/figures.smk"
    include: "workflow/rules/report.smk"
    include: "workflow/rules/costs.smk"

    # in the repository of reopt itself
    if os.path.isfile("workflow/rules/docs.smk"):

        include: "workflow/rules/docs.smk"
        include: "workflow/rules/ship.smk"


onsuccess:
    record(workflow)

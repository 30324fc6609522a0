"""Published optimizers that see more than their own gradient: trained, judged against tuned rivals, compared."""

from reopt.systems import config as of_systems, stages as systems_stages

SYSTEMS = of_systems.parse(config, CONFIG)


wildcard_constraints:
    system="[a-z][a-z0-9_]*",
    rival="[a-z][a-z0-9_]*",


def declared(stage):
    """What a rule carries in its params: digests of the sources that it runs, and the settings that it reads."""
    return {
        "source": sources(*stage.modules),
        "settings": section(config, *stage.keys),
    }


def system_stage(what, part):
    """A part of what is declared, by the wildcard `system`."""
    return lambda w: declared(what(SYSTEMS, w.system))[part]


def rival_stage(what, part):
    """A part of what is declared, by the wildcards `task` and `rival`."""
    return lambda w: declared(what(SYSTEMS, w.task, w.rival))[part]


rule train_system:
    output:
        best=f"{R}/{{task}}/systems/{{system}}-s{{seed}}/best.safetensors",
        log=f"{R}/{{task}}/systems/{{system}}-s{{seed}}/training.csv.gz",
        provenance=f"{R}/{{task}}/systems/{{system}}-s{{seed}}/provenance.json",
    log:
        f"logs/{NAME}/{{task}}/train_system/{{system}}-s{{seed}}.log",
    benchmark:
        f"logs/{NAME}/{{task}}/train_system/{{system}}-s{{seed}}.tsv"
    resources:
        mem_mb=lambda wildcards, attempt: 3000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
    params:
        config=CONFIG,
        out=folder,
        source=system_stage(systems_stages.training, "source"),
        settings=system_stage(systems_stages.training, "settings"),
    message:
        "Meta-training {wildcards.system} (seed {wildcards.seed}) on {wildcards.task}"
    shell:
        "reopt train-system {wildcards.system:q} --config {params.config:q} --seed {wildcards.seed:q} --out {params.out:q}"
        " --log {log:q}"


rule judge_system:
    input:
        f"{R}/{{task}}/systems/{{system}}-s{{seed}}/best.safetensors",
    output:
        problems=f"{R}/{{task}}/systems/{{system}}-s{{seed}}/problems.csv",
        factors=f"{R}/{{task}}/systems/{{system}}-s{{seed}}/factors.csv",
    log:
        f"logs/{NAME}/{{task}}/judge_system/{{system}}-s{{seed}}.log",
    params:
        config=CONFIG,
        out=folder,
        source=system_stage(systems_stages.judging_system, "source"),
        settings=system_stage(systems_stages.judging_system, "settings"),
    message:
        "Judging {wildcards.system} (seed {wildcards.seed}) on {wildcards.task}"
    shell:
        "reopt judge-system {input:q} --system {wildcards.system:q} --config {params.config:q} --out {params.out:q}"
        " --log {log:q}"


rule read_system:
    input:
        f"{R}/{{task}}/systems/{{system}}-s{{seed}}/best.safetensors",
    output:
        verdicts=f"{R}/{{task}}/readings/{{system}}-s{{seed}}/verdicts.csv",
        mixture=f"{R}/{{task}}/readings/{{system}}-s{{seed}}/mixture.csv",
        conditioning=f"{R}/{{task}}/readings/{{system}}-s{{seed}}/conditioning.csv",
    log:
        f"logs/{NAME}/{{task}}/read_system/{{system}}-s{{seed}}.log",
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        config=CONFIG,
        out=folder,
        source=system_stage(systems_stages.reading, "source"),
        settings=system_stage(systems_stages.reading, "settings"),
    message:
        "Reading {wildcards.system} (seed {wildcards.seed}) in its context"
    shell:
        "reopt read-system {input:q} --system {wildcards.system:q} --config {params.config:q} --out {params.out:q}"
        " --log {log:q}"


rule tune_rival:
    output:
        draws=f"{R}/{{task}}/rivals/{{rival}}/draws.csv",
        winner=f"{R}/{{task}}/rivals/{{rival}}/winner.json",
        provenance=f"{R}/{{task}}/rivals/{{rival}}/provenance.json",
    log:
        f"logs/{NAME}/{{task}}/tune_rival/{{rival}}.log",
    params:
        config=CONFIG,
        out=folder,
        source=rival_stage(systems_stages.tuning, "source"),
        settings=rival_stage(systems_stages.tuning, "settings"),
    message:
        "Tuning {wildcards.rival} on {wildcards.task}"
    shell:
        "reopt tune-rival {wildcards.rival:q} --task {wildcards.task:q} --config {params.config:q} --out {params.out:q}"
        " --log {log:q}"


rule judge_rival:
    input:
        f"{R}/{{task}}/rivals/{{rival}}/draws.csv",
    output:
        f"{R}/{{task}}/rivals/{{rival}}/problems.csv",
    log:
        f"logs/{NAME}/{{task}}/judge_rival/{{rival}}.log",
    params:
        config=CONFIG,
        source=rival_stage(systems_stages.judging_rival, "source"),
        settings=rival_stage(systems_stages.judging_rival, "settings"),
    message:
        "Judging {wildcards.rival} on {wildcards.task}"
    shell:
        "reopt judge-rival {input:q} --rival {wildcards.rival:q} --task {wildcards.task:q} --config {params.config:q}"
        " --out {output:q} --log {log:q}"


rule compare_systems:
    input:
        [f"{R}/{file}" for file in systems_stages.judged_files(SYSTEMS)],
    output:
        f"{R}/summary.csv",
    log:
        f"logs/{NAME}/compare_systems.log",
    params:
        **declared(systems_stages.comparing()),
        config=CONFIG,
    message:
        "Comparing systems and rivals"
    shell:
        "reopt compare-systems --config {params.config:q} --out {output:q} --log {log:q}"


rule systems_claims:
    input:
        f"{R}/summary.csv",
    output:
        f"{R}/claims.csv",
    log:
        f"logs/{NAME}/systems_claims.log",
    params:
        **declared(systems_stages.claiming()),
        config=CONFIG,
    message:
        "Judging the claims about systems"
    shell:
        "reopt systems-claims {input:q} --config {params.config:q} --out {output:q} --log {log:q}"


rule figure_systems:
    input:
        f"{R}/summary.csv",
    output:
        svg=report(
            f"{R}/figures/systems.svg",
            caption=f"../../{R}/figures/systems.rst",
            category="Systems",
            labels={"figure": "systems"},
        ),
        png=f"{R}/figures/systems.png",
        caption=f"{R}/figures/systems.rst",
    log:
        f"logs/{NAME}/figures/systems.log",
    params:
        **declared(systems_stages.drawing()),
        config=CONFIG,
        out=folder,
    message:
        "Drawing systems against their rivals"
    shell:
        "reopt systems-figure {input:q} --config {params.config:q} --out {params.out:q} --log {log:q}"

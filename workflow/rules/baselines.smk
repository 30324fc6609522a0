"""The classical optimizers, tuned by random search."""


rule tune:
    output:
        draws=f"{R}/{{task}}/baselines/{{baseline}}.csv.gz",
        winner=f"{R}/{{task}}/baselines/{{baseline}}.json",
        provenance=f"{R}/{{task}}/baselines/{{baseline}}.provenance.json",
    log:
        f"logs/{NAME}/{{task}}/tune/{{baseline}}.log",
    resources:
        runtime=lambda wildcards, attempt: 480 * attempt,
    params:
        config=CONFIG,
        out=folder,
        source=source_of("tune"),
        settings=settings_of("tune"),
    message:
        "Tuning {wildcards.baseline} on {wildcards.task}"
    shell:
        "reopt tune {wildcards.baseline:q} --task {wildcards.task:q} --config {params.config:q} --out {params.out:q} --log {log:q}"

"""Meta-training: the slow part. A killed run goes on from its state below .reopt/."""


rule metatrain:
    output:
        best=f"{R}/{{task}}/optimizers/{{optimizer}}-s{{seed}}/best.safetensors",
        last=f"{R}/{{task}}/optimizers/{{optimizer}}-s{{seed}}/last.safetensors",
        log=f"{R}/{{task}}/optimizers/{{optimizer}}-s{{seed}}/training.csv",
        provenance=f"{R}/{{task}}/optimizers/{{optimizer}}-s{{seed}}/provenance.json",
    log:
        f"logs/{NAME}/{{task}}/metatrain/{{optimizer}}-s{{seed}}.log",
    benchmark:
        f"logs/{NAME}/{{task}}/metatrain/{{optimizer}}-s{{seed}}.tsv"
    threads: workflow.cores
    resources:
        gpu=0,
    params:
        config=CONFIG,
        out=folder,
        source=source_of("metatrain"),
        settings=settings_of("metatrain"),
    message:
        "Meta-training {wildcards.optimizer} (seed {wildcards.seed}) on {wildcards.task}"
    shell:
        "reopt metatrain {wildcards.optimizer} --task {wildcards.task} --config {params.config} --seed {wildcards.seed}"
        " --threads {threads} --out {params.out} --log {log}"

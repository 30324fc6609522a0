"""Meta-training: the slow part. A killed run goes on from its state below .reopt/."""


rule search:
    output:
        table=f"{R}/{{task}}/recipe.csv",
        recipe=f"{R}/{{task}}/recipe.json",
        provenance=f"{R}/{{task}}/recipe.provenance.json",
    log:
        f"logs/{NAME}/{{task}}/search.log",
    resources:
        mem_mb=search_memory,
        runtime=lambda wildcards, attempt: 720 * attempt,
        gpu=0,
    params:
        config=CONFIG,
        out=folder,
        source=source_of("search"),
        settings=settings_of("search"),
    message:
        "Searching a recipe for {wildcards.task}"
    shell:
        "reopt search --task {wildcards.task:q} --config {params.config:q} --threads {threads} --out {params.out:q} --log {log:q}"


rule metatrain:
    input:
        recipe=recipe_file,
    output:
        best=f"{R}/{{task}}/optimizers/{{optimizer}}-s{{seed}}/best.safetensors",
        last=f"{R}/{{task}}/optimizers/{{optimizer}}-s{{seed}}/last.safetensors",
        log=f"{R}/{{task}}/optimizers/{{optimizer}}-s{{seed}}/training.csv.gz",
        provenance=f"{R}/{{task}}/optimizers/{{optimizer}}-s{{seed}}/provenance.json",
    log:
        f"logs/{NAME}/{{task}}/metatrain/{{optimizer}}-s{{seed}}.log",
    benchmark:
        f"logs/{NAME}/{{task}}/metatrain/{{optimizer}}-s{{seed}}.tsv"
    threads: training_threads
    resources:
        mem_mb=training_memory,
        runtime=lambda wildcards, attempt: 720 * attempt,
        gpu=0,
    params:
        config=CONFIG,
        out=folder,
        recipe=lambda w, input: (
            f"--recipe {shlex.quote(input.recipe)}" if input.recipe else ""
        ),
        source=source_of("metatrain"),
        settings=settings_of("metatrain"),
    message:
        "Meta-training {wildcards.optimizer} (seed {wildcards.seed}) on {wildcards.task}"
    shell:
        "reopt metatrain {wildcards.optimizer:q} --task {wildcards.task:q} --config {params.config:q} --seed {wildcards.seed:q}"
        " --threads {threads} {params.recipe} --keep-diverged --out {params.out:q} --log {log:q}"

"""What the config's jobs cost, predicted and measured. Asked for by name: `snakemake costs`; timings are no results."""


rule costs:
    input:
        checkpoints=expand(
            f"{R}/{{run}}/best.safetensors",
            run=[
                f"{task}/optimizers/{run}"
                for task in config["tasks"]
                for run in learned(config, task)
            ],
        ),
    output:
        report(
            f"{R}/costs.csv",
            caption="../report/costs.rst",
            category="Costs",
            labels={"table": "costs"},
        ),
    log:
        f"logs/{NAME}/costs.log",
    threads: workflow.cores
    params:
        config=CONFIG,
        source=sources("reopt.pipeline.cost.jobs"),
        settings=section(config, "tasks", "baselines", "evaluation"),
    message:
        "Predicting what the jobs of {params.config} cost"
    shell:
        "reopt estimate --config {params.config:q} --out {output:q} --log {log:q}"

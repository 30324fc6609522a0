"""The page of results of a config: what came out, each figure with its caption, each verdict."""


rule results_page:
    input:
        figures=expand(
            f"{R}/figures/{{figure}}.{{suffix}}",
            figure=figures(),
            suffix=["svg", "rst"],
        ),
        tables=[f"{R}/claims.csv", f"{R}/deviations.csv"],
        evaluation=[
            f"{R}/{task}/evaluation/{subject}.csv"
            for task in config["tasks"]
            for subject in judged(config, task)
        ],
        optimizers=[
            f"{R}/{task}/optimizers/{subject}/best.safetensors"
            for task in config["tasks"]
            for subject in learned(config, task)
        ],
    output:
        f"{R}/index.html",
    log:
        f"logs/{NAME}/results_page.log",
    params:
        config=CONFIG,
        source=sources(
            "reopt.report.page",
            files=[
                file  # in a project of one's own they are the installed package's
                for file in (
                    "src/reopt/report/page.html",
                    "src/reopt/examination/style.css",
                )
                if os.path.isfile(file)
            ],
        ),
        settings=section(config, "tasks", "baselines", "evaluation"),
    message:
        "Writing the page of results, {output}"
    shell:
        "reopt page --config {params.config:q} --out {output:q} --log {log:q}"

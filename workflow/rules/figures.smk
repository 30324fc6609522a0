"""Claims, deviations from the paper and figures, over all tasks. One rule a figure, for the report takes a caption by rule."""


rule claims:
    input:
        [f"{R}/{file}" for file in claims_files(config)],
    output:
        table=report(
            f"{R}/claims.csv",
            caption="../report/claims.rst",
            category="Claims",
            labels={"table": "claims"},
        ),
        seeds=f"{R}/claims_seeds.csv",
    log:
        f"logs/{NAME}/claims.log",
    params:
        config=CONFIG,
        source=sources(*claims_stage(config).modules),
        settings=section(config, *claims_stage(config).keys),
    message:
        "Judging the claims of the paper"
    shell:
        "reopt claims --config {params.config:q} --out {output.table:q} --seeds {output.seeds:q} --log {log:q}"


rule deviations:
    input:
        reference="config/paper.yaml",
    output:
        report(
            f"{R}/deviations.csv",
            caption="../report/deviations.rst",
            category="Deviations from the paper",
            labels={"table": "deviations"},
        ),
    log:
        f"logs/{NAME}/deviations.log",
    params:
        config=CONFIG,
        source=sources("reopt.pipeline.deviations"),
        settings=section(config, "tasks"),
    message:
        "Comparing the config with the paper's"
    shell:
        "reopt deviations --config {params.config:q} --reference {input.reference:q} --out {output:q} --log {log:q}"


for figure, declared in figures().items():

    rule:
        name:
            f"figure_{figure}"
        input:
            [f"{R}/{file}" for file in figure_files(config, figure)],
        output:
            svg=report(
                f"{R}/figures/{figure}.svg",
                caption=f"../../{R}/figures/{figure}.rst",
                category=declared.category,
                labels={"figure": figure},
            ),
            png=f"{R}/figures/{figure}.png",
            caption=f"{R}/figures/{figure}.rst",
        log:
            f"logs/{NAME}/figures/{figure}.log",
        params:
            config=CONFIG,
            figure=figure,
            out=folder,
            source=sources(*figure_stage(config, figure).modules),
            settings=section(config, *figure_stage(config, figure).keys),
        message:
            "Drawing {params.figure}"
        shell:
            "reopt figure {params.figure:q} --config {params.config:q} --out {params.out:q} --log {log:q}"

"""Tables of the docs that take minutes and do not follow from results; not part of the main job."""


rule optax_table:
    output:
        "docs/optax.csv",
    log:
        "logs/optax_table.log",
    params:
        source=sources(
            "reopt.dissection.examine",
            "reopt.dissection.readings",
            "reopt.optimizers.optax_walk",
        ),
    shell:
        "python workflow/scripts/optax_table.py > {log} 2>&1"


rule calibration:
    output:
        "docs/calibration.csv",
    log:
        "logs/calibration.log",
    params:
        source=sources("reopt.dissection.calibration"),
    shell:
        "python -m reopt.dissection.calibration --draws 200 --seed 2 --out {output} > {log} 2>&1"


rule benchmarks:
    output:
        json="docs/performance.json",
        table="docs/performance.csv",
    log:
        "logs/benchmarks.log",
    threads: workflow.cores or 1
    params:
        source=sources(
            "reopt.training.metatrain",
            "reopt.training.tune",
            "reopt.dynamics.many_gradients",
        ),
    shell:
        "python -m benchmarks --out {output.json} > {log} 2>&1"


rule performance_page:
    input:
        "docs/performance.json",
    output:
        "docs/images/scaling.svg",
    log:
        "logs/performance_page.log",
    params:
        source=sources("reopt.figures.save", "reopt.figures.axes"),
    shell:
        "python workflow/scripts/performance.py > {log} 2>&1"

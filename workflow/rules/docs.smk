"""Tables of the docs that take minutes and do not follow from results; not part of the main job."""


rule atlas_subjects:
    output:
        "docs/atlas/subjects.txt",
    log:
        "logs/atlas/subjects.log",
    params:
        source=sources("reopt.examination.atlas", "reopt.optimizers.optax_walk"),
    shell:
        "python workflow/scripts/atlas.py subjects > {log:q} 2>&1"


for batch, keys in atlas_batches().items():

    rule:
        name:
            f"atlas_entries_{batch}"
        input:
            sorted(str(path) for path in Path("src/reopt/shipped").glob(f"{batch}/*")),
        output:
            [f"docs/atlas/{key}.json" for key in keys],
        log:
            f"logs/atlas/entries_{batch}.log",
        params:
            subjects=keys,
            source=sources(
                "reopt.examination.atlas",
                "reopt.figures.atlas",
                *(f"reopt.mechanisms.{name}" for name in mechanism_modules()),
            ),
        shell:
            "python workflow/scripts/atlas.py entries {params.subjects:q} > {log:q} 2>&1"


rule atlas:
    input:
        [f"docs/atlas/{key}.json" for keys in atlas_batches().values() for key in keys],
    output:
        "docs/atlas/index.json",
    log:
        "logs/atlas/index.log",
    params:
        source=sources("reopt.examination.atlas"),
    shell:
        "python workflow/scripts/atlas.py index > {log:q} 2>&1"


rule optax_table:
    input:
        rules.atlas.output,
    output:
        "docs/optax.csv",
    log:
        "logs/optax_table.log",
    shell:
        "python workflow/scripts/optax_table.py > {log:q} 2>&1"


rule calibration:
    output:
        "docs/calibration.csv",
    log:
        "logs/calibration.log",
    params:
        source=sources(
            "reopt.examination.calibration",
            *(f"reopt.mechanisms.{name}" for name in mechanism_modules()),
        ),
    shell:
        "python -m reopt.examination.calibration --draws 200 --seed 2 --out {output:q} > {log:q} 2>&1"


rule faults:
    input:
        sorted(str(file) for file in Path("tests/fuzz").glob("*.py")),
    output:
        "docs/fuzz.csv",
    log:
        "logs/faults.log",
    params:
        source=sources(
            *(
                f"reopt.cli.{name}"
                for name in (
                    "app",
                    "train",
                    "evaluate",
                    "analyse",
                    "stress",
                    "examine",
                    "verdicts",
                )
            ),
        ),
    shell:
        "python workflow/scripts/fuzz_table.py > {log:q} 2>&1"


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
            "reopt.dynamics.fixed_point_families",
        ),
    shell:
        "python -m benchmarks --out {output.json:q} > {log:q} 2>&1"


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
        "python workflow/scripts/performance.py > {log:q} 2>&1"


rule screenshots:
    input:
        "results/study/index.html",
        "docs/assets/extra.css",
    output:
        expand(
            "docs/images/pages/{page}-{window}.webp",
            page=["dissection", "results"],
            window=["1280-light", "390-dark"],
        ),
    log:
        "logs/screenshots.log",
    params:
        source=sources(
            "reopt.report.page",
            "reopt.examination.page",
            files=[
                "src/reopt/report/page.html",
                "src/reopt/examination/page.html",
                "src/reopt/examination/style.css",
            ],
        ),
    shell:
        "python workflow/scripts/screenshots.py --out logs/screenshots --keep > {log:q} 2>&1"

"""Tables of the docs that take minutes and do not follow from results; not part of the main job."""


rule optax_table:
    output:
        "docs/optax.csv",
    params:
        source=sources(
            "reopt.dissection.examine",
            "reopt.dissection.readings",
            "reopt.optimizers.optax_walk",
        ),
    shell:
        "python workflow/scripts/optax_table.py"


rule calibration:
    output:
        "docs/calibration.csv",
    params:
        source=sources("reopt.dissection.calibration"),
    shell:
        "python -m reopt.dissection.calibration --draws 200 --seed 1 --out {output}"

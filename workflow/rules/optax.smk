"""The table of every optimizer of optax in the docs; not part of the main job."""


rule optax_table:
    output:
        "docs/optax.csv",
    params:
        source=sources("reopt.dissection.examine", "reopt.dissection.readings", "reopt.optimizers.optax_walk"),
    shell:
        "python workflow/scripts/optax_table.py"

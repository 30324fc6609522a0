"""What each mechanism is worth, by taking it away: asked for by the figure `causes`."""


rule causes:
    input:
        subject=subject_file,
        linearization=f"{A}/linearization.npz",
        clipping=f"{A}/clipping.csv",
        momentum=tuned_momentum,
    output:
        table=f"{A}/causes.csv",
        worth=f"{A}/worth.csv",
    log:
        f"{LOGS}/causes.log",
    params:
        config=CONFIG,
        out=folder,
        momentum=lambda w, input: (
            f"--momentum {input.momentum}" if input.momentum else ""
        ),
        source=source_of("causes"),
        settings=settings_of("causes"),
    message:
        "Taking the mechanisms of {wildcards.subject} ({wildcards.task}) away"
    shell:
        "reopt causes {input.subject} --task {wildcards.task} --config {params.config}"
        " --linearization {input.linearization} --clipping {input.clipping} {params.momentum} --out {params.out}"
        " --log {log}"

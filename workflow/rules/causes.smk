"""What each mechanism is worth, by taking it away: asked for by the figure `causes`."""


rule causes:
    input:
        subject=subject_file,
        needs=[f"{A}/{file}" for file in files_of("linearization", "clipping")],
        momentum=tuned_momentum,
    output:
        [f"{A}/{file}" for file in files_of("ablation")],
    log:
        f"{LOGS}/causes.log",
    resources:
        runtime=lambda wildcards, attempt: 480 * attempt,
    params:
        config=CONFIG,
        out=folder,
        momentum=lambda w, input: (
            f"--momentum {shlex.quote(input.momentum)}" if input.momentum else ""
        ),
        source=source_of("causes"),
        settings=settings_of("causes"),
    message:
        "Taking the mechanisms of {wildcards.subject} ({wildcards.task}) away"
    shell:
        "reopt causes {input.subject:q} --task {wildcards.task:q} --config {params.config:q}"
        " --examination {params.out:q} {params.momentum} --out {params.out:q} --log {log:q}"

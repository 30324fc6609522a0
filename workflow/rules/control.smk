"""Positive controls: readings of optimizers of which they are known beforehand."""


rule control:
    input:
        subject=subject_file,
        needs=[f"{A}/{file}" for file in files_of("points", "linearization")],
    output:
        f"{A}/control.csv",
    log:
        f"{LOGS}/control.log",
    params:
        config=CONFIG,
        examination=lambda wildcards, input: os.path.dirname(input.needs[0]),
        source=source_of("control"),
        settings=settings_of("control"),
    message:
        "Readings of {wildcards.subject} ({wildcards.task}) beside what is known of it"
    shell:
        "reopt control {input.subject:q} --task {wildcards.task:q} --config {params.config:q}"
        " --examination {params.examination:q} --out {output:q} --log {log:q}"

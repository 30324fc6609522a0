"""What is foretold of the examined subjects on a curvature, with a run for each sentence."""


rule foretell:
    input:
        subject=subject_file,
        needs=[
            f"{A}/{file}"
            for file in files_of("recording", "points", "linearization", "clipping")
        ],
    output:
        f"{A}/foretold.csv",
    log:
        f"{LOGS}/foretell.log",
    params:
        config=CONFIG,
        examination=lambda wildcards, input: os.path.dirname(input.needs[0]),
        source=source_of("foretell"),
        settings=settings_of("foretell"),
    message:
        "What {wildcards.subject} ({wildcards.task}) will do, foretold and run"
    shell:
        "reopt foretell {input.subject:q} --task {wildcards.task:q} --config {params.config:q}"
        " --examination {params.examination:q} --table {output:q} --log {log:q}"

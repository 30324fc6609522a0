"""Judging every optimizer, and recording those that are examined."""


rule evaluate:
    input:
        subject=subject_file,
    output:
        table=f"{R}/{{task}}/evaluation/{{subject}}.csv",
        curves=f"{R}/{{task}}/evaluation/{{subject}}.curves.csv",
    log:
        f"logs/{NAME}/{{task}}/evaluate/{{subject}}.log",
    params:
        config=CONFIG,
        subject=lambda w, input: input.subject or "polyak",
        source=source_of("evaluate"),
        settings=settings_of("evaluate"),
    message:
        "Judging {wildcards.subject} on {wildcards.task}"
    shell:
        "reopt evaluate {params.subject} --task {wildcards.task} --config {params.config} --out {output.table}"
        " --curves {output.curves} --log {log}"


rule conditions:
    output:
        f"{R}/{{task}}/conditions.csv",
    log:
        f"logs/{NAME}/{{task}}/conditions.log",
    params:
        config=CONFIG,
        source=source_of("conditions"),
        settings=settings_of("conditions"),
    message:
        "Condition numbers of {wildcards.task}"
    shell:
        "reopt conditions --task {wildcards.task} --config {params.config} --out {output} --log {log}"


rule record:
    input:
        subject=subject_file,
    output:
        f"{R}/{{task}}/analysis/{{subject}}/record.npz",
    log:
        f"logs/{NAME}/{{task}}/record/{{subject}}.log",
    params:
        config=CONFIG,
        source=source_of("record"),
        settings=settings_of("record"),
    message:
        "Recording {wildcards.subject} on {wildcards.task}"
    shell:
        "reopt record {input.subject} --task {wildcards.task} --config {params.config} --out {output} --log {log}"


rule landscape:
    input:
        subject=shown_file,
    output:
        grid=f"{R}/{{task}}/landscape.csv",
        path=f"{R}/{{task}}/path.csv",
    log:
        f"logs/{NAME}/{{task}}/landscape.log",
    params:
        config=CONFIG,
        out=folder,
        source=source_of("landscape"),
        settings=settings_of("landscape"),
    message:
        "The loss around the path of the shown optimizer on {wildcards.task}"
    shell:
        "reopt landscape {input.subject} --task {wildcards.task} --config {params.config} --out {params.out} --log {log}"

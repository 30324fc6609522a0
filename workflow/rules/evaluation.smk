"""Judging every optimizer, and how hard the problems are."""


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
        subject=lambda w, input: input.subject or w.subject,
        source=source_of("evaluate"),
        settings=settings_of("evaluate"),
    message:
        "Judging {wildcards.subject} on {wildcards.task}"
    shell:
        "reopt evaluate {params.subject:q} --task {wildcards.task:q} --config {params.config:q} --out {output.table:q}"
        " --curves {output.curves:q} --log {log:q}"


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
        "reopt conditions --task {wildcards.task:q} --config {params.config:q} --out {output:q} --log {log:q}"


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
        "reopt landscape {input.subject:q} --task {wildcards.task:q} --config {params.config:q} --out {params.out:q} --log {log:q}"

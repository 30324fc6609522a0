"""The examination of a subject, a rule a part: recording, fixed points, update functions, ..., verdicts."""

A = f"{R}/{{task}}/analysis/{{subject}}"
LOGS = f"logs/{NAME}/{{task}}/analysis/{{subject}}"

for part, made in PARTS.items():

    rule:
        name:
            part
        input:
            subject=subject_file,
            needs=[f"{A}/{file}" for file in files_of(*made.needs)],
        output:
            [f"{A}/{file}" for file in made.files],
        log:
            f"{LOGS}/{part}.log",
        params:
            config=CONFIG,
            part=part,
            out=folder,
            source=source_of(part),
            settings=settings_of(part),
        message:
            f"{made.title} {{wildcards.subject}} ({{wildcards.task}})"
        shell:
            "reopt analyse {params.part} {input.subject:q} --task {wildcards.task} --config {params.config:q}"
            " --out {params.out:q} --log {log:q}"

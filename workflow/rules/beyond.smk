"""Beyond the training distribution: where the shown runs and the tuned baselines fail."""

B = f"{R}/{{task}}/beyond"


rule beyond:
    input:
        subject=subject_file,
        needs=[f"{A}/{file}" for file in files_of("recording", "clipping")],
    output:
        table=f"{B}/{{subject}}/beyond.csv",
        horizon=f"{B}/{{subject}}/horizon.csv",
        breaking=f"{B}/{{subject}}/breaking.csv",
        first=f"{B}/{{subject}}/first_to_break.csv",
    log:
        f"logs/{NAME}/{{task}}/beyond/{{subject}}.log",
    wildcard_constraints:
        subject="[a-z][a-z0-9_]*-s[0-9]+",
    params:
        config=CONFIG,
        out=folder,
        examination=lambda wildcards, input: os.path.dirname(input.needs[0]),
        source=source_of("beyond"),
        settings=settings_of("beyond"),
    message:
        "{wildcards.subject} ({wildcards.task}) beyond its training distribution"
    shell:
        "reopt beyond {input.subject:q} --task {wildcards.task:q} --config {params.config:q}"
        " --examination {params.examination:q} --out {params.out:q} --log {log:q}"


rule beyond_baseline:
    input:
        f"{R}/{{task}}/baselines/{{baseline}}.json",
    output:
        table=f"{B}/{{baseline}}/beyond.csv",
        horizon=f"{B}/{{baseline}}/horizon.csv",
    log:
        f"logs/{NAME}/{{task}}/beyond/{{baseline}}.log",
    params:
        config=CONFIG,
        out=folder,
        source=source_of("beyond"),
        settings=settings_of("beyond"),
    message:
        "{wildcards.baseline} ({wildcards.task}) beyond what it was tuned on"
    shell:
        "reopt beyond {input:q} --task {wildcards.task:q} --config {params.config:q} --out {params.out:q} --log {log:q}"


rule transfer:
    input:
        subject=subject_file,
    output:
        f"{B}/{{subject}}/{{other}}/transfer.csv",
    log:
        f"logs/{NAME}/{{task}}/beyond/{{subject}}.{{other}}.log",
    params:
        config=CONFIG,
        source=lambda w: sources(*stage(config, "transfer", task=w.other).modules),
        settings=lambda w: section(
            config, *stage(config, "transfer", task=w.other).keys
        ),
    message:
        "{wildcards.subject} ({wildcards.task}) on {wildcards.other}"
    shell:
        "reopt transfer {input.subject:q} --task {wildcards.other:q} --config {params.config:q} --out {output:q} --log {log:q}"

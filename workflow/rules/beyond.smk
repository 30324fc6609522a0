"""Beyond the training distribution: where the shown runs and the tuned baselines fail."""

B = f"{R}/{{task}}/beyond"


rule beyond:
    input:
        subject=subject_file,
        record=f"{R}/{{task}}/analysis/{{subject}}/record.npz",
        clipping=f"{R}/{{task}}/analysis/{{subject}}/clipping.csv",
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
        source=source_of("beyond"),
        settings=settings_of("beyond"),
    message:
        "{wildcards.subject} ({wildcards.task}) beyond its training distribution"
    shell:
        "reopt beyond {input.subject} --task {wildcards.task} --config {params.config} --record {input.record}"
        " --clipping {input.clipping} --out {params.out} --log {log}"


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
        "reopt beyond {input} --task {wildcards.task} --config {params.config} --out {params.out} --log {log}"


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
        "reopt transfer {input.subject} --task {wildcards.other} --config {params.config} --out {output} --log {log}"

"""The examination of a subject: fixed points, modes, update functions, schedule, adaptation."""

A = f"{R}/{{task}}/analysis/{{subject}}"
LOGS = f"logs/{NAME}/{{task}}/analysis/{{subject}}"


rule fixed_points:
    input:
        subject=subject_file,
        record=f"{A}/record.npz",
    output:
        f"{A}/fixed_points.npz",
    log:
        f"{LOGS}/fixed_points.log",
    params:
        config=CONFIG,
        source=source_of("fixed_points"),
        settings=settings_of("fixed_points"),
    message:
        "Fixed points of {wildcards.subject} ({wildcards.task})"
    shell:
        "reopt fixed-points {input.subject} --task {wildcards.task} --config {params.config} --record {input.record}"
        " --out {output} --log {log}"


rule linearize:
    input:
        subject=subject_file,
        points=f"{A}/fixed_points.npz",
    output:
        linearization=f"{A}/linearization.npz",
        modes=f"{A}/modes.csv",
        impulse=f"{A}/impulse.csv",
        curves=f"{A}/linearized.csv",
        problems=f"{A}/linearized_problems.csv",
    log:
        f"{LOGS}/linearize.log",
    params:
        config=CONFIG,
        out=folder,
        source=source_of("linearize"),
        settings=settings_of("linearize"),
    message:
        "Linearizing {wildcards.subject} ({wildcards.task}) at its attractor"
    shell:
        "reopt linearize {input.subject} --task {wildcards.task} --config {params.config} --fixed-points {input.points}"
        " --out {params.out} --log {log}"


rule pca:
    input:
        subject=subject_file,
        record=f"{A}/record.npz",
    output:
        f"{A}/pca.npz",
    log:
        f"{LOGS}/pca.log",
    params:
        config=CONFIG,
        source=source_of("pca"),
        settings=settings_of("pca"),
    message:
        "Principal components of {wildcards.subject} ({wildcards.task})"
    shell:
        "reopt pca {input.subject} --task {wildcards.task} --config {params.config} --record {input.record}"
        " --out {output} --log {log}"


rule update_functions:
    input:
        subject=subject_file,
        record=f"{A}/record.npz",
        pca=f"{A}/pca.npz",
        linearization=f"{A}/linearization.npz",
    output:
        functions=f"{A}/update_functions.csv.gz",
        clipping=f"{A}/clipping.csv",
    log:
        f"{LOGS}/update_functions.log",
    params:
        config=CONFIG,
        out=folder,
        source=source_of("update_functions"),
        settings=settings_of("update_functions"),
    message:
        "Update functions of {wildcards.subject} ({wildcards.task})"
    shell:
        "reopt update-functions {input.subject} --task {wildcards.task} --config {params.config} --record {input.record}"
        " --pca {input.pca} --linearization {input.linearization} --out {params.out} --log {log}"


rule gradient_density:
    input:
        record=f"{A}/record.npz",
    output:
        f"{A}/gradient_density.csv",
    log:
        f"{LOGS}/gradient_density.log",
    params:
        config=CONFIG,
        source=source_of("gradient_density"),
        settings=settings_of("gradient_density"),
    message:
        "Gradients met by {wildcards.subject} ({wildcards.task})"
    shell:
        "reopt gradient-density --task {wildcards.task} --config {params.config} --record {input.record}"
        " --out {output} --log {log}"


rule schedule:
    input:
        subject=subject_file,
        pca=f"{A}/pca.npz",
        linearization=f"{A}/linearization.npz",
    output:
        table=f"{A}/schedule.csv",
        summary=f"{A}/schedule.json",
    log:
        f"{LOGS}/schedule.log",
    params:
        config=CONFIG,
        out=folder,
        source=source_of("schedule"),
        settings=settings_of("schedule"),
    message:
        "Autonomous trajectory of {wildcards.subject} ({wildcards.task})"
    shell:
        "reopt schedule {input.subject} --task {wildcards.task} --config {params.config} --pca {input.pca}"
        " --linearization {input.linearization} --out {params.out} --log {log}"


rule adaptation:
    input:
        subject=subject_file,
        record=f"{A}/record.npz",
        pca=f"{A}/pca.npz",
        linearization=f"{A}/linearization.npz",
    output:
        table=f"{A}/adaptation.csv",
        summary=f"{A}/adaptation.json",
        functions=f"{A}/adaptation_functions.csv.gz",
    log:
        f"{LOGS}/adaptation.log",
    params:
        config=CONFIG,
        out=folder,
        source=source_of("adaptation"),
        settings=settings_of("adaptation"),
    message:
        "Constant gradients on {wildcards.subject} ({wildcards.task})"
    shell:
        "reopt adaptation {input.subject} --task {wildcards.task} --config {params.config} --record {input.record}"
        " --pca {input.pca} --linearization {input.linearization} --out {params.out} --log {log}"

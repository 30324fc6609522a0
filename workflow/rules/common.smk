"""What the rules are parametrised by: subjects, sources and config slices, by wildcards."""


def subject_file(wildcards):
    """The file a subject is read from: a checkpoint, a tuned baseline, or none (polyak is theory)."""
    if wildcards.subject in learned(config, wildcards.task):
        return f"{R}/{wildcards.task}/optimizers/{wildcards.subject}/best.safetensors"
    return (
        []
        if wildcards.subject == "polyak"
        else f"{R}/{wildcards.task}/baselines/{wildcards.subject}.json"
    )


def source_of(name):
    """The source that stage `name` uses, by wildcards."""
    return lambda w: sources(*stage(name, **names(w)).modules)


def settings_of(name):
    """The slice of the config that stage `name` reads, by wildcards."""
    return lambda w: section(config, *stage(name, **names(w)).keys)


def names(wildcards):
    """The wildcards that a stage's modules and keys depend on."""
    return {
        key: value
        for key, value in wildcards.items()
        if key in ("task", "optimizer", "baseline")
    }


def folder(wildcards, output):
    """The folder of a job's outputs."""
    return os.path.dirname(output[0])

"""What the rules are parametrised by: subjects, sources and config slices, by wildcards."""


def subject_file(wildcards):
    """The file a subject is read from: a checkpoint, a tuned baseline, or none (theory)."""
    if wildcards.subject in learned(config, wildcards.task):
        return f"{R}/{wildcards.task}/optimizers/{wildcards.subject}/best.safetensors"
    return (
        []
        if wildcards.subject in THEORY
        else f"{R}/{wildcards.task}/baselines/{wildcards.subject}.json"
    )


def shown_file(wildcards):
    """The checkpoint of the optimizer that a task's figures show."""
    shown = config["tasks"][wildcards.task]["shown"]
    return f"{R}/{wildcards.task}/optimizers/{shown}/best.safetensors"


def tuned_momentum(wildcards):
    """The tuned momentum of a task, if it has one: a reference beside the combinations."""
    there = "momentum" in baselines_of(config, wildcards.task)
    return f"{R}/{wildcards.task}/baselines/momentum.json" if there else []


def recipe_file(wildcards):
    """The search that an optimizer leaves values to; none if it leaves nothing."""
    searched = is_searched(config, wildcards.task, wildcards.optimizer)
    return f"{R}/{wildcards.task}/recipe.json" if searched else []


def training_threads(wildcards):
    """Cores that can share a run's problems: a group that is clipped together stays on one."""
    training = config["tasks"][wildcards.task]["optimizers"][wildcards.optimizer][
        "training"
    ]
    group = (
        training["cotangent_clipping"]["group"] if training["cotangent_clipping"] else 1
    )
    return min(workflow.cores or 1, training["problems"] // group)


def training_memory(wildcards, attempt):
    """Megabytes of a run: what its meta-gradient may keep, and programs and data."""
    optimizers = config["tasks"][wildcards.task]["optimizers"]
    budget = optimizers[wildcards.optimizer]["training"]["memory_mb"]
    return attempt * (4000 + round(1.5 * budget))


def search_memory(wildcards, attempt):
    """Megabytes of a task's search, which trains its optimizer."""
    task = config["tasks"][wildcards.task]
    budget = task["optimizers"][task["search"]["optimizer"]]["training"]["memory_mb"]
    return attempt * (4000 + round(1.5 * budget))


def source_of(name):
    """The source that stage `name` uses, by wildcards."""
    return lambda w: sources(*stage(config, name, **names(w)).modules)


def settings_of(name):
    """The slice of the config that stage `name` reads, by wildcards."""
    return lambda w: section(config, *stage(config, name, **names(w)).keys)


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


def atlas_batches(size=12):
    """Keys of the subjects of the atlas, in lists for a job each, which starts Python once; those of the learned
    optimizers of a task are one. From a committed list, so that the Snakefile is read without JAX.
    """
    listed = Path("docs/atlas/subjects.txt")
    keys = listed.read_text(encoding="utf-8").split() if listed.is_file() else []
    tasks = list(
        dict.fromkeys(
            path.parent.name
            for path in Path("src/reopt/shipped").glob("*/*.safetensors")
        )
    )
    learned = {
        task: [key for key in keys if key.startswith(f"{task}-")]
        for task in sorted(tasks)
    }
    others = [key for key in keys if key not in sum(learned.values(), [])]
    batches = {
        f"{at // size:02}": others[at : at + size] for at in range(0, len(others), size)
    }
    return {name: one for name, one in (batches | learned).items() if one}

"""The learned optimizers that travel with the package, of the results of config/study.yaml; not part of the main job."""

if NAME == "study":

    rule ship:
        input:
            [
                f"{R}/{task}/{file}"
                for task in config["tasks"]
                for subject in learned(config, task)
                for file in (
                    f"optimizers/{subject}/best.safetensors",
                    f"analysis/{subject}/record.npz",
                    f"evaluation/{subject}.csv",
                )
            ],
            [
                f"{R}/{task}/evaluation/{baseline}.csv"
                for task in config["tasks"]
                for baseline in baselines_of(config, task)
            ],
            script="workflow/scripts/ship.py",
        output:
            "src/reopt/shipped/cards.json",
        log:
            "logs/ship.log",
        message:
            "Choosing the learned optimizers that travel with the package"
        shell:
            "python {input.script:q} > {log:q} 2>&1"

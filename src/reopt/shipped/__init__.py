"""Learned optimizers that travel with the package: a checkpoint each, and `cards.json`, which says what each is for.

Both are made from the results of config/study.yaml: `uv run snakemake ship --configfile config/study.yaml`.
"""

"""Tasks for published learned optimizers that see more than their own gradient."""

"""Mechanisms of optimizers, a file each: what is measured, its bounds, its verdict; and the measurements they read."""

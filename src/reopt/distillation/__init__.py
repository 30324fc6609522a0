"""Learned optimizers distilled to rules of a few numbers, written out as code."""

"""Published learned optimizers, from files of weights that the user has."""

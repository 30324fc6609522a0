"""Names of the classical optimizers, for what must know them before anything is imported that computes."""

POLYAK = "polyak"  # the heavy ball with the rates that theory gives for a task's eigenvalue range
BEST_LINEAR = "best_linear"  # the best linear method on a task of quadratics, also from theory
THEORY = (POLYAK, BEST_LINEAR)
BASELINE_NAMES = ("sgd", "momentum", "nesterov", "rmsprop", "adam", "adam_decay")  # those that are tuned

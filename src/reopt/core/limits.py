"""Numbers that decide something in more than one place."""

CEILING = 10.0  # meta-objective beyond which a run has diverged, and as which it then counts; standing still has 1
SLOW_STEPS = 5.0  # a mode with a longer timescale -1 / ln |beta| is slow: it carries momentum

"""Why a transformation is no component-wise optimizer."""

from reopt.core.errors import ReoptError

COUPLED = "couples parameters"
VALUES = "looks at parameter values"
RANDOM = "draws random numbers"
MORE = "needs more than gradients"
BY_SHAPE = "acts by the shape of arrays"
BY_GROUP = "acts by how parameters are divided into arrays"
BY_NAME = "acts by the names of arrays"
BY_NESTING = "acts by how arrays are nested"


class NotComponentWise(ReoptError):
    """Why an optax transformation is no optimizer of ours; `kind` is one of those above."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind

from .base import Task as Task
from .mnist import MNIST as MNIST
from .quadratic import Quadratic as Quadratic
from .rosenbrock import Rosenbrock as Rosenbrock
from .two_moons import TwoMoons as TwoMoons

"""The examination of any one optimizer, from its dynamics to a verdict for each mechanism: `reopt dissect`."""

from reopt.dissection.dissect import Dissection as Dissection
from reopt.dissection.dissect import dissect as dissect

"""The examination of any one optimizer, from its dynamics to a verdict for each mechanism: `reopt dissect`."""

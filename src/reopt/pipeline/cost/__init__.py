"""What the jobs of a config cost, before they are run: FLOPs, memory, and minutes on this machine."""

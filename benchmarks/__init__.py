"""Speed and memory, each figure as a ratio to a plain reference timed in the same run: `python -m benchmarks`."""

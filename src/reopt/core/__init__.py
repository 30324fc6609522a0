"""The only place that reads and writes files: one module a format, each with clear errors."""

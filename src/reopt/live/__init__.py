"""Measurements inside anyone's own training, while it runs."""

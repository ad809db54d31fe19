"""Single."""

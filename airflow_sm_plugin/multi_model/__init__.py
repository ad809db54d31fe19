"""Multi model."""

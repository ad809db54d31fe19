"""Waiting without a worker slot: look, let core decide, sleep; one terminal event."""

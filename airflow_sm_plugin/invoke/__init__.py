"""Invoke."""

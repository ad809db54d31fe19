"""Async inference."""

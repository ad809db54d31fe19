"""Autopilot."""

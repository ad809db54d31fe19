"""Autopilot: AutoML jobs that really train candidates, laid out as the service lays them out."""

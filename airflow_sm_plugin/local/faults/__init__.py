"""Errors on purpose, and the texts of errors.

``faults`` is the plan that a user sets, of rules from ``fault_rules``; ``outcomes`` are the ends of coming deployments.
``recorded`` has the answers that AWS was observed to give, which handlers raise and rules can name.
"""

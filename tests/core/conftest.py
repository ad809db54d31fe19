"""Properties are judged by what they find, not by how busy the machine is that looks for it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

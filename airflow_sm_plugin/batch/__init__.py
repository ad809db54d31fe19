"""Engines that take many inputs through an endpoint in one task; they call hooks and know no Airflow."""

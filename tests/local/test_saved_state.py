"""The state that an embedded SageMaker writes to a folder and reads at the next start."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from airflow_sm_plugin.local.server import EmbeddedSageMaker

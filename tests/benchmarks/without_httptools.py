"""Run a module as under Airflow 2.11, without httptools and uvloop: aiohttp and asyncio's loop do the work.

``python -m tests.benchmarks.without_httptools <module> <arguments>``
"""

import runpy
import sys

if __name__ == "__main__":
    sys.modules.update({"httptools": None, "uvloop": None})  # type: ignore[dict-item]  # each import fails from now on
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

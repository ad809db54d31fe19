"""The answers of the embedded SageMaker whose texts are not recorded, in ``docs/``: ``make invented-answers``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from airflow_sm_plugin.local.faults.recorded import RecordedAnswer, recorded_answers

PAGE = Path(__file__).parents[2] / "docs" / "embedded-sagemaker.md"
BEGIN, END = "<!-- made by make invented-answers -->", "<!-- up to here -->"


def listed(page: str) -> str:
    """Return what a page has between the marks."""
    return page.partition(BEGIN)[2].partition(END)[0].strip()


def table() -> str:
    """Return the table of all answers that are graded ``invented``, by operation and in the order of the data."""
    invented = [row for row in recorded_answers().values() if row.grade == "invented"]
    rows = [
        f"| {row.operation} | {row.situation} | {row.status} {row.code} | {_cell(_text(row))} | {row.source} |"
        for row in sorted(invented, key=lambda row: row.operation)
    ]
    return "\n".join(
        ["| operation | situation | answer | text | recorded or invented |", "|---|---|---|---|---|", *rows]
    )


def _text(row: RecordedAnswer) -> str:
    body = row.body
    text = str(body.get("message", body.get("Message", body.get("OriginalMessage", ""))))
    status = f"{body['OriginalStatusCode']}: " if "OriginalStatusCode" in body else ""
    return status + re.sub(r"\$\{?(\w+)\}?", r"<\1>", text)


def _cell(text: str) -> str:
    return "`" + text.replace("|", "\\|").replace("`", "'") + "`"


def main() -> None:
    """Write the table between the page's marks."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}")
    sys.stdout.write(f"written: {PAGE}\n")


if __name__ == "__main__":
    main()

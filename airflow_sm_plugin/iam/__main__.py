"""Print least-privilege IAM policies: ``python -m airflow_sm_plugin.iam deploy invoke --endpoint 'churn*'``.

Policies go to standard output as JSON; remarks about them go to standard error.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

from airflow_sm_plugin.exceptions import InvalidRequest
from airflow_sm_plugin.iam.arguments import ARGUMENTS, parts_of_arns
from airflow_sm_plugin.iam.documents import check_features, policy_document, remarks
from airflow_sm_plugin.iam.features import EXECUTION_ROLE, FEATURES, TASK_ROLE

_ROLES = (TASK_ROLE, EXECUTION_ROLE)


def _parser() -> argparse.ArgumentParser:
    width = max(map(len, FEATURES))
    features = "\n".join(f"  {name:{width}}  {feature.about}" for name, feature in FEATURES.items())
    parser = argparse.ArgumentParser(
        prog="python -m airflow_sm_plugin.iam",
        description="Print the least permissions that features need, as IAM policies.",
        epilog=f"features:\n{features}\n\nA name that is not given is a placeholder in the policy: <account>.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("features", nargs="*", metavar="feature", help="what is used, see below")
    for name, argument in ARGUMENTS.items():
        more = "; can be repeated" if argument.several else ""
        parser.add_argument(
            f"--{name}",
            action="append" if argument.several else "store",
            default=[] if argument.several else None,
            help=f"{argument.about}{more}",
        )
    parser.add_argument("--acl", action="store_true", help="objects are written with output_acl")
    parser.add_argument(
        "--for",
        dest="role_kind",
        choices=_ROLES,
        help="print one policy: of the role that Airflow's tasks run with, or of the role that SageMaker runs models "
        "with; default: both, as an object of two policies",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    given = {name: _values(getattr(options, name.replace("-", "_"))) for name in ARGUMENTS}
    try:
        features, parts = check_features(options.features), parts_of_arns(given)
    except InvalidRequest as error:
        parser.error(str(error))
    chosen = {name.replace("-", "_") for name, values in given.items() if values}
    if options.acl:
        chosen.add("acl")
    if not all(role.startswith("arn:") for role in given["role"]):
        chosen.add("role_name")
    kinds = [options.role_kind] if options.role_kind else list(_ROLES)
    documents = {kind: policy_document(features, kind, parts, chosen) for kind in kinds}
    printed = {kind: document for kind, document in documents.items() if document is not None}
    for kind, document in documents.items():
        lines = [f"nothing is needed for {', '.join(features)}"] if document is None else remarks(document)
        sys.stderr.writelines(f"{kind}: {line}\n" for line in lines)
    if not printed:
        return 1
    shown = printed[options.role_kind] if options.role_kind else printed
    sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    return 0


def _values(given: str | list[str] | None) -> list[str]:
    return [given] if isinstance(given, str) else given or []


if __name__ == "__main__":
    sys.exit(main())

"""Which model package may become a model: as DescribeModelPackage and ListModelPackages answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from airflow_sm_plugin.exceptions import InvalidRequest, ModelPackageNotApproved, ModelPackageNotFound
from airflow_sm_plugin.resources.model_packages import (
    check_approved,
    check_package_arn,
    environment_of,
    newest,
)

PREFIX = "arn:aws:sagemaker:eu-west-1:123456789012"


def version(number: int, approval: str | None = "Approved", status: str = "Completed") -> dict[str, object]:
    return {
        "ModelPackageGroupName": "churn",
        "ModelPackageArn": f"{PREFIX}:model-package/churn/{number}",
        "ModelPackageStatus": status,
        "ModelApprovalStatus": approval,
    }


def test_a_package_passes_and_a_group_is_refused_with_its_argument() -> None:
    arn = f"{PREFIX}:model-package/churn/3"
    assert check_package_arn(arn) == arn
    with pytest.raises(
        InvalidRequest, match="names a model package group: give it as model_package_group_name"
    ):
        check_package_arn(f"{PREFIX}:model-package-group/churn")


def test_an_approved_package_may_become_a_model() -> None:
    check_approved(version(1))


@pytest.mark.parametrize(
    ("approval", "state"),
    [
        ("Rejected", "is Rejected"),
        ("PendingManualApproval", "is PendingManualApproval"),
        (None, "is neither"),
    ],
)
def test_any_other_is_refused_with_the_remedy(approval: str | None, state: str) -> None:
    with pytest.raises(
        ModelPackageNotApproved, match=rf"(?s)churn/1 {state}.*\nDo: approve it in the Model Registry"
    ):
        check_approved(version(1, approval))


@pytest.mark.parametrize("status", ["Pending", "InProgress", "Failed", "Deleting"])
def test_an_unfinished_package_is_refused_though_it_is_approved(status: str) -> None:
    with pytest.raises(ModelPackageNotApproved, match=f"churn/1 is {status}, only a Completed one"):
        check_approved(version(1, status=status))


def test_a_package_outside_a_group_knows_no_approval() -> None:
    """Those that one subscribes to in AWS Marketplace."""
    check_approved({"ModelPackageArn": f"{PREFIX}:model-package/bought", "ModelPackageStatus": "Completed"})


def test_the_newest_approved_version_is_the_first_that_is_usable() -> None:
    listing = [version(5, "Rejected"), version(4, status="Failed"), version(3), version(2)]
    assert newest(listing, group="churn", require_approved=True) == listing[2]
    assert newest(listing, group="churn", require_approved=False) == listing[0]


def test_no_more_of_a_listing_is_read_than_needed() -> None:
    def pages() -> Iterator[Mapping[str, object]]:
        yield version(2)
        raise AssertionError("a second page was asked for")

    assert newest(pages(), group="churn", require_approved=True) == version(2)


def test_a_group_without_such_a_version_is_an_error_with_the_remedy() -> None:
    with pytest.raises(ModelPackageNotFound, match="group churn has no approved version\nDo: approve one"):
        newest([version(1, "Rejected")], group="churn", require_approved=True)
    with pytest.raises(ModelPackageNotFound, match="group churn has no usable version\nDo: register one"):
        newest([version(1, status="Failed")], group="churn", require_approved=False)


@pytest.mark.parametrize("package", [{}, {"InferenceSpecification": None}])
def test_a_package_may_set_nothing(package: dict[str, object]) -> None:
    assert environment_of(package) == {}


def test_a_packages_environment_is_that_of_its_containers() -> None:
    containers = [{"Environment": {"A": "1"}}, {}, {"Environment": {"B": "2"}}]
    assert environment_of({"InferenceSpecification": {"Containers": containers}}) == {"A": "1", "B": "2"}

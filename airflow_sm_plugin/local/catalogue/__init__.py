"""Operations on resources of every kind: of this service, and of those whose records moto stores.

- ``search``: SageMaker's Search.
- ``tags``: SageMaker's AddTags, ListTags and DeleteTags, and the Resource Groups Tagging API.
- ``cloudformation``: refuses templates with SageMaker's resources. moto would create them in its own SageMaker, where
  no other operation of this service finds them.

The three files are independent of each other.
"""

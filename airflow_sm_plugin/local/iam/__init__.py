"""Identity policies: which calls an access key is permitted to make.

AWS decides each call by the policies of its caller. Here every call is permitted, unless its access key was given a
policy with ``PUT /_embedded/policies/<access key>``: then each permission that AWS asks for is checked, and a missing
one gets AWS's answer.

The calls that SageMaker makes with a model's execution role are made here with the key ``embedded-server``.

- ``policies``: an identity policy, and the decision. Pure.
- ``permissions``: the permissions that a call needs: action, resource, and condition keys. Pure.
- ``access_keys``: the policies by access key, and the permissions that calls needed.

``front/authorization`` checks a call before it is carried out. Read ``policies``, ``permissions``.
"""

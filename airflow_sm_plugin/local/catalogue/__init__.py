"""Finding resources of every kind.

``search`` answers SageMaker's Search, ``tags`` its tags and the Resource Groups Tagging API, over the records here and
those that moto keeps. ``cloudformation`` refuses templates with SageMaker's resources, which moto would make in a
SageMaker that nothing else sees.
"""

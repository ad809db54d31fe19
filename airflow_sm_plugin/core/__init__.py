"""Pure code that all folders share: it needs no Airflow, no AWS, no clock, no input or output, no logging.

- Public, for users' own code: ``response_keys``, ``custom_attributes``, ``notifications``.
- Reading arguments: ``template_values`` (numbers, booleans, texts, lists and mappings as templates render them),
  ``input_selection`` (which objects below a prefix are inputs), ``manifest_array`` (SageMaker's manifest).
- Names and locations: ``names`` (names by content, owners' tags, log groups), ``s3`` (locations, a HEAD's answers),
  ``header_values`` (what an HTTP header carries).
- Failures: ``service_errors`` (what AWS's errors mean), ``backoff`` (the pause before the next attempt),
  ``failed_polls`` (how many failed polls a wait endures).
- Data: ``lines`` (one line after another of a stream), ``number_sets`` (sets of numbers as bit masks),
  ``text`` (numbers, durations and times for people).
"""

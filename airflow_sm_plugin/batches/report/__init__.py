"""What the reports of both kinds of batches have in common.

``failures`` counts failures in groups of one error class and one kind of message, with example records; such groups add
up over processes and shards. ``elements`` are the parts of a page: headline, cards, groups of failures, and the links
to the DAG run, the logs and the outputs. ``page`` renders a template that extends ``page.html.jinja``, which has the
styles, the parts above and the script of the filter.

Only ``page`` imports Jinja2, which every Airflow brings.

Read ``failures``, ``elements``, then ``page``.
"""

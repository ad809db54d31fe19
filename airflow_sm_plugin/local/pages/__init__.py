"""Pages for people below ``/_embedded/ui/``: endpoints, their calls and logs, and the objects in S3.

They only read. No page has a script, and its Content-Security-Policy permits none; a stored object that is shown as a
page gets an origin of its own (``sandbox``), whose requests ``protocol.access`` refuses.

- ``site``: the addresses, and the headers of the answers.
- ``views``: what each page says about endpoints, models and calls.
- ``browser``: buckets, folders and objects, read from S3.
- ``templates``: Jinja2 templates, and the one stylesheet.

Read ``site``.
"""

"""The HTTP server's outside.

``http_channel`` corrects waitress; ``app`` is the WSGI application that decides who answers a request, and logs it;
``control`` is the service's own interface below ``/_embedded/``.
"""

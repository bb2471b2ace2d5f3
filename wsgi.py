"""The WSGI entry point: `gunicorn wsgi:app`, which reads `gunicorn.conf.py`, or `flask --app wsgi run`."""

import gc

gc.disable()  # nothing that is loaded becomes garbage, and searching it takes a sixth of the time of the import
from app import create_app  # noqa: E402

app = create_app()
gc.freeze()  # nor is it searched while a request waits, or at the end of a worker, where that took long
gc.enable()

"""The WSGI entry point: `gunicorn wsgi:app`, which reads `gunicorn.conf.py` by itself, or `flask --app wsgi run`."""

import gc

gc.disable()  # what is loaded stays: a sixth of the time goes into looking for garbage in it
from app import create_app  # noqa: E402

app = create_app()
gc.freeze()  # nor is it looked through while a request waits, or at the end of a worker, where it took long
gc.enable()

"""The WSGI entry: `gunicorn wsgi:app` (which reads `gunicorn.conf.py` beside this file) or `flask --app wsgi run`."""

from app import create_app

app = create_app()

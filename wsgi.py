"""The WSGI entry point: `gunicorn wsgi:app`, which reads `gunicorn.conf.py` by itself, or `flask --app wsgi run`."""

from app import create_app

app = create_app()

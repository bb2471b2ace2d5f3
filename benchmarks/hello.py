"""Bare Flask without validation, store or disk: the upper limit that the service is compared with."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return "hello"

"""Bare Flask, the ceiling that the service is measured against: no validation, no store, no disk."""

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return "hello"

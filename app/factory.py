"""Builds the application from settings, store, access rules, error handlers, metrics, blueprints and OpenAPI."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import click
from flask import Flask, Request, request
from flask.cli import ScriptInfo
from werkzeug.routing import MapAdapter, Rule

from app import errors, idempotency, keyed_answers, metrics, serving
from app.access.check import FrontDoor
from app.access.documented import describe as describe_access
from app.audit.routes import blueprint as audit
from app.backup.routes import blueprint as backup
from app.changes.routes import blueprint as changes
from app.cli import exits
from app.cli.command_table import COMMANDS
from app.cli.commands import command
from app.cli.owner import become_owner
from app.converters import BackupNameConverter, EventIdConverter, JobIdConverter, TopicConverter
from app.docs.routes import blueprint as docs
from app.edge import Edge, attach, note_answered_change
from app.events.routes import blueprint as events
from app.headers import SecurityHeaders
from app.health.routes import blueprint as health
from app.jobs.routes import blueprint as jobs_routes
from app.kafka.routes import blueprint as kafka
from app.notify.routes import blueprint as notify
from app.operations import asynchronous
from app.operations.routes import blueprint as operations
from app.problems.routes import blueprint as problems
from app.proxies import behind_proxies
from app.replies import OrjsonProvider, compress
from app.request_end import RequestEnd
from app.session.routes import blueprint as session
from app.settings.routes import blueprint as settings_routes
from app.shared_answers import SHARED_SECONDS, SharedAnswers
from app.store import COMMAND
from app.streaming import take_slot_for_long_answer
from app.tokens.routes import blueprint as tokens
from app.ui.routes import blueprint as dashboard
from app.worker_memory import SHARED, THROTTLE
from eventvault import __version__
from eventvault.access.throttle import Throttle
from eventvault.errors import InvalidSettings
from eventvault.events.schema import JSON_SCHEMA
from eventvault.jobs.port import Jobs
from eventvault.settings import Settings
from eventvault.store.ports.store import Store

_CONFIGURATION = {
    "API_TITLE": "EventVault",
    "API_VERSION": __version__,
    "OPENAPI_VERSION": "3.1.0",
    "OPENAPI_URL_PREFIX": "/",
    "OPENAPI_JSON_PATH": "openapi.json",
}


class _Route(Rule):
    """A route that compiles its function for building URLs only when a URL is built.

    Nothing here builds one, and compiling these functions takes two thirds of the time to make an application.
    """

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compile_once = cache(super()._compile_builder)
        return lambda route, **values: compile_once(append_unknown)(route, **values)


class _Application(Flask):
    url_rule_class = _Route

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """Return `func`: no view and no hook is a coroutine. Flask would examine a dozen of them for each request."""
        return func

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Bind the routes to a request. No route depends on a host, which Flask would compare with SERVER_NAME."""
        if request is None:
            return super().create_url_adapter(request)
        query = request.environ.get("QUERY_STRING")
        return self.url_map.bind("", request.root_path, None, request.scheme, request.method, request.path, query)


def create_app(
    settings: Settings | None = None,
    store: Store | None = None,
    *,
    jobs: Jobs | None = None,
    shared_seconds: float | None = None,
) -> Flask:
    """Return the application.

    settings: default: those of the environment; invalid ones are printed and the process exits 78. store: default: the
    store that `BackupManager.initialize()` finds or starts; for a command, a client that starts one on its first call.
    jobs: the port to the dispatcher; default: the port of the service, or none if `store` is passed.
    shared_seconds: how long one answer is given to all who ask for it; default: SHARED_SECONDS.
    """
    settings = settings or _load_settings()
    _check_settings_of_run(settings)
    app = _Application(__name__, static_folder=None)
    app.json = OrjsonProvider(app)
    app.url_map.strict_slashes = False
    app.url_map.merge_slashes = False
    app.url_map.converters |= {
        "event_id": EventIdConverter,
        "job_id": JobIdConverter,
        "backup_name": BackupNameConverter,
        "topic": TopicConverter,
    }
    app.config.update(_CONFIGURATION)
    app.wsgi_app = behind_proxies(  # type: ignore[method-assign]
        settings.trusted_proxies, SecurityHeaders(RequestEnd(app.wsgi_app))
    )
    memory = SHARED if store is None else None
    answers = SharedAnswers(SHARED_SECONDS if shared_seconds is None else shared_seconds, memory=memory)
    throttle = THROTTLE if store is None else Throttle()
    if store is None and not _is_command():
        jobs = jobs or _port_to_dispatcher(settings)
    store = store or (_store_of_command(settings) if _is_command() else _store_of_service(settings))
    edge = Edge(settings, store, answers=answers, throttle=throttle, jobs=jobs)
    attach(app, edge)
    front_door = FrontDoor(settings, edge.tokens, edge.sign_ins, edge.sessions)
    _register(app, front_door)
    front_door.learn_routes(app)
    return app


def _load_settings() -> Settings:
    """Load the settings. With `--json` errors are printed as JSON; click has not parsed the options yet."""
    if not _is_command():
        return serving.load_settings_or_exit()
    if "--json" not in sys.argv:
        return serving.load_settings_or_exit(become_owner)
    try:
        return serving.load_settings(become_owner)
    except InvalidSettings as error:
        exits.exit_with_error(error, as_json=True)


def _check_settings_of_run(settings: Settings) -> None:
    """Check under `flask run` what `gunicorn.conf.py` checks: exit 78 if an address in the settings is not allowed."""
    context = click.get_current_context(silent=True)
    if context is None or context.info_name != "run":
        return
    if host := context.params.get("host"):
        serving.exit_if_unprotected(settings, [host])
    serving.exit_if_tokens_are_invalid(settings)
    serving.exit_if_addresses_are_unknown(settings)


def _is_command() -> bool:
    """Return whether the application is built for a `flask` command that serves nothing, help included."""
    context = click.get_current_context(silent=True)
    return context is not None and context.find_object(ScriptInfo) is not None and context.info_name != "run"


def _store_of_command(settings: Settings) -> Store:
    """Return a client that starts a store only on its first call, so that `flask routes` starts none."""
    from app.cli.connection import spawner_for_commands
    from eventvault.store.rpc.client import StoreClient

    return StoreClient.over(spawner_for_commands(settings))


def _port_to_dispatcher(settings: Settings) -> Jobs | None:
    from eventvault.jobs.client import JobsClient

    return JobsClient.over(settings.storage_dir) if settings.jobs_enabled else None


def _store_of_service(settings: Settings) -> Store:
    # Imported here because only a process that serves needs it; tests pass a store.
    from eventvault import logs
    from eventvault.backup_manager import BackupManager

    if not logging.getLogger().handlers:  # under `flask run`; gunicorn and pytest set it up themselves
        logs.setup(settings)
    return BackupManager(settings, command=COMMAND).initialize()


def _register(app: Flask, front_door: FrontDoor) -> None:
    @app.before_request
    def begin() -> None:
        metrics.record_arrival(request.environ)
        front_door.check()

    errors.install(app)
    keyed_answers.install(app)
    metrics.install(app)
    # Flask calls the last hook first: an answer is compressed, may take a slot, and then the metrics count it.
    app.after_request(take_slot_for_long_answer)
    app.after_request(compress)
    app.after_request(note_answered_change)
    app.register_blueprint(docs)
    app.register_blueprint(dashboard)
    for name in COMMANDS:  # for an environment in which the project itself is not installed
        app.cli.add_command(command(name))
    api = errors.EdgeApi(app, complete=(asynchronous.describe, idempotency.describe, describe_access))
    api.spec.components.schema("Event", JSON_SCHEMA)
    for blueprint in (
        events, backup, operations, changes, jobs_routes, kafka, problems, notify, audit, health, settings_routes,
        tokens, session,
    ):  # fmt: skip
        api.register_blueprint(blueprint)

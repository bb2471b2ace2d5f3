"""gunicorn's configuration: `gunicorn wsgi:app` finds this file in the current folder.

The master reads it before it forks, and again on SIGHUP. Settings come from the same environment variables as
everywhere. Options on gunicorn's command line override this file, so `on_starting` and `when_ready` check the addresses
that are really in use.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

from gunicorn.glogging import Logger

_HERE = str(Path(__file__).resolve().parent)
if _HERE not in sys.path:
    sys.path.insert(0, _HERE)

from app import gunicorn_patches, serving, signals  # noqa: E402  # importable only with the folder of this file in the path
from eventvault import token_text  # noqa: E402

_settings = serving.load_settings_or_exit()
serving.prepare_service()
signals.exit_on_early_signals()
gunicorn_patches.install()

wsgi_app = "wsgi:app"
bind = serving.bind_address(_settings)
workers = _settings.web_concurrency
worker_class = "app.gunicorn_worker.Worker"
threads = 40
keepalive = 30
graceful_timeout = 60
limit_request_line = gunicorn_patches.MAX_REQUEST_LINE
forwarded_allow_ips = ""  # TRUSTED_PROXIES decides whose X-Forwarded-For and -Proto count, in app/proxies.py
secure_scheme_headers: dict[str, str] = {}  # otherwise a peer at a Unix socket could name the scheme
forwarder_headers = ""  # otherwise a header SCRIPT_NAME of a peer on this machine would move the routes
http_parser = "python"
control_socket_disable = True
access_log_format = '%(h)s %(t)s "%(m)s %(U)s %(H)s" %(s)s %(b)s "%(a)s"'  # if it is switched on: without queries
loglevel = _settings.log_level


class _Logger(Logger):  # type: ignore[misc]  # gunicorn has no types
    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        serving.configure_logging(_settings, self.error_log.handlers)


logger_class = _Logger


def on_starting(server: Any) -> None:
    gunicorn_patches.keep_command_for_next_master(server)
    serving.exit_if_unprotected(_settings, serving.configured_addresses(server.cfg.address))
    serving.exit_if_tokens_are_invalid(_settings)
    serving.exit_if_addresses_are_unknown(_settings)


def when_ready(server: Any) -> None:
    addresses = serving.socket_addresses(listener.sock for listener in server.LISTENERS)
    serving.exit_if_unprotected(_settings, addresses)
    serving.warn_who_has_access(_settings, addresses, server.log.warning)
    gc.freeze()  # so that no collection writes to the pages of the loaded modules, which the workers share


def child_exit(server: Any, worker: Any) -> None:
    serving.drop_worker_metrics(worker.pid)


def post_worker_init(worker: Any) -> None:
    signals.exit_soon_on_interrupt(worker)
    serving.connect_worker_to_store()
    serving.load_tokens(worker.wsgi)


def pre_request(worker: Any, req: Any) -> None:
    worker.log.debug("%s %s", req.method, token_text.mask_tokens(req.path))
    req.headers = serving.join_repeated_event_headers(req.headers)


def worker_exit(server: Any, worker: Any) -> None:
    serving.remove_orphaned_metrics()


def on_exit(server: Any) -> None:
    serving.end_store_of_service(_settings)

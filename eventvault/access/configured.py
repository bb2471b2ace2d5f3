"""The tokens of the settings: API_TOKENS, and the file of API_TOKENS_FILE, which may change while the service runs."""

from __future__ import annotations

import logging

from eventvault.errors import InvalidSettings
from eventvault.files import FileIdentity
from eventvault.regular_files import open_file
from eventvault.settings import Settings
from eventvault.token_text import SETTING_ALLOWED, ConfiguredToken, parse_setting

log = logging.getLogger("eventvault.access")

MAX_BYTES = 2**20


class ConfiguredTokens:
    """is_set: a setting names tokens, or a file of tokens, even a missing one: then the service is closed."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.api_tokens_file
        self._of_setting = tuple(token for entry in settings.api_tokens for token in parse_setting(entry))
        self._of_file: tuple[ConfiguredToken, ...] = ()
        self._problem = ""
        self.is_set = bool(self._of_setting) or self._path is not None

    def read(self) -> tuple[ConfiguredToken, ...]:
        """Return the tokens; a missing file has none. Raises InvalidSettings for an invalid or unreadable file."""
        return *self._of_setting, *self._read_file()

    def read_or_keep(self) -> tuple[tuple[ConfiguredToken, ...], str]:
        """Return the tokens, and why the file is not valid; then what this process read before still counts."""
        problem = ""
        try:
            self._of_file = self._read_file()
        except InvalidSettings as error:
            problem = error.message
            if problem != self._problem:
                log.warning("%s; what this process read there earlier stays in force", problem)
        self._problem = problem
        return (*self._of_setting, *self._of_file), problem

    def identity(self) -> object:
        """Return a value that differs once the file has changed; None without a file, an errno if it is unknown."""
        if self._path is None:
            return None
        try:
            return FileIdentity.of(self._path.stat())  # a container's secret may be a link
        except OSError as error:
            return error.errno

    def _read_file(self) -> tuple[ConfiguredToken, ...]:
        if self._path is None:
            return ()
        try:
            with open_file(self._path.resolve()) as file:
                text = file.read(MAX_BYTES + 1).decode()
            if len(text) > MAX_BYTES:
                raise InvalidSettings(f"API_TOKENS_FILE {self._path} is larger than {MAX_BYTES} bytes", hint=_HINT)
            return parse_setting(text)
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except (OSError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InvalidSettings(f"API_TOKENS_FILE {self._path} cannot be read: {reason}", hint=_HINT) from error
        except UnicodeDecodeError as error:
            raise InvalidSettings(f"API_TOKENS_FILE {self._path} is not UTF-8", hint=_HINT) from error
        except ValueError as error:
            raise InvalidSettings(
                f"entry {error} of API_TOKENS_FILE {self._path} is not valid; allowed: {SETTING_ALLOWED}", hint=_HINT
            ) from error


_HINT = "correct that file; docs/access.md shows one"

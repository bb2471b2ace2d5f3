"""The command line over HTTP: a second adapter of the ports of the store, for `--url` and `EVENTVAULT_URL`.

`store` composes it; `calls` says in one table which request stands for which method of a port, `answers` what its
answer means. Nothing here needs a settings file, a folder or the application, and none of it runs in a service.
"""

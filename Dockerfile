# Builds the packages; the build tools do not stay in the image.
FROM python:3.12-slim-bookworm AS packages
# plyvel has a wheel for x86_64 only; elsewhere it is built.
RUN if [ "$(uname -m)" != x86_64 ]; then \
        apt-get update && apt-get install --yes --no-install-recommends g++ libleveldb-dev \
        && rm -rf /var/lib/apt/lists/*; \
    fi
# Where pip finds packages, for people behind a mirror; blank: where pip always looks.
ARG PIP_INDEX_URL=
ARG PIP_EXTRA_INDEX_URL=
ARG PIP_TRUSTED_HOST=
RUN python -m venv /opt/venv
COPY requirements.txt /tmp/requirements.txt
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --use-pep517 --require-hashes \
        --requirement /tmp/requirements.txt

FROM python:3.12-slim-bookworm
RUN if [ "$(uname -m)" != x86_64 ]; then \
        apt-get update && apt-get install --yes --no-install-recommends libleveldb1d \
        && rm -rf /var/lib/apt/lists/*; \
    fi \
    && groupadd --gid 1000 eventvault \
    && useradd --uid 1000 --gid eventvault --no-create-home --home-dir /tmp --shell /usr/sbin/nologin eventvault

COPY --from=packages /opt/venv /opt/venv
WORKDIR /usr/src/app
COPY deploy/entrypoint /usr/local/bin/eventvault-entrypoint
COPY wsgi.py gunicorn.conf.py pyproject.toml ./
COPY eventvault eventvault
COPY app app
COPY worker worker
COPY README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md ./
COPY docs docs
# A checkout with umask 077 has files that only root could read in the image. The project itself is installed for its
# commands, `eventvault` and `flask`.
RUN chmod 0755 /usr/local/bin/eventvault-entrypoint \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-index --no-deps --no-build-isolation \
        --editable . \
    && chmod -R u=rwX,go=rX eventvault app worker docs wsgi.py gunicorn.conf.py pyproject.toml \
        README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md \
    && /opt/venv/bin/python -m compileall -q eventvault app worker wsgi.py \
    && install --directory --owner eventvault --group eventvault storage backups restore

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOST=0.0.0.0 \
    PORT=5050
EXPOSE 5050
USER eventvault

HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/api/health/live', timeout=4)"]

ENTRYPOINT ["eventvault-entrypoint"]
CMD ["python", "-m", "app"]

# `make run` starts the service on port 5050, `make test` runs every check. Each target installs what it needs in .venv.
# Settings (docs/settings.md) may follow the target: make run PORT=8080 WEB_CONCURRENCY=4

VENV := .venv
BIN := $(VENV)/bin
TEST_PROCESSES ?= auto
PYTEST = $(BIN)/pytest -n $(TEST_PROCESSES) --maxprocesses 8 --dist loadscope --no-loadscope-reorder
PYTEST_OPTIONS ?=
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock'

.DEFAULT_GOAL := help
.PHONY: help run worker test test-fast lint style types security compiled-tests broker format bench bench-serve bench-backup bench-journal bench-past bench-health bench-full-disk bench-streams bench-rehearsal bench-import bench-command-line bench-page bench-jobs bench-kafka bench-publish soak docs pictures vendor lock upgrade clean system-packages

help:
	@echo 'make run          run the service on http://127.0.0.1:5050 (Ctrl-C ends it)'
	@echo 'make worker       run a worker for jobs'
	@echo 'make test         run every check and every test'
	@echo 'make test-fast    run the checks and the short tests without real processes, in about a minute'
	@echo 'make lint         run ruff, mypy and bandit'
	@echo 'make format       format the code'
	@echo 'make soak         run the long tests'
	@echo 'make bench        run all benchmarks; make bench-serve, bench-backup, bench-journal, bench-past,'
	@echo '                  bench-health, bench-full-disk, bench-streams, bench-rehearsal, bench-import, bench-command-line,'
	@echo '                  bench-page, bench-jobs, bench-kafka, bench-publish: one of them'
	@echo 'make docs         write docs/settings.md, docs/errors.md, .env.example and docs/modules.md'
	@echo 'make pictures     make pictures of every state of the dashboard, those in docs/ too'
	@echo 'make vendor       copy the dashboard'"'"'s packages from npm, after a change of scripts/ui-packages'
	@echo 'make lock         write requirements*.txt from requirements*.in; make upgrade: with newer versions'
	@echo 'make clean        remove the virtual environment and the caches of the checks'

# Ctrl-C, a signal to make or a closed terminal stops the service gracefully.
run: $(VENV)/runtime.installed
	@exec scripts/attended $(BIN)/python -m app

worker: $(VENV)/runtime.installed
	@exec scripts/attended $(BIN)/python -m worker

# What comes before the tests keeps one processor busy, or waits for the network: three of these jobs run at once.
test: $(VENV)/dev.installed
	@$(MAKE) --no-print-directory --jobs 3 broker types compiled-tests lint
	@$(PYTEST) -m 'not soak' $(PYTEST_OPTIONS)

# Half of the time of these tests goes into fsync, and none is about a disk: where there is room, their files lie in
# memory. `make test` runs them on a disk, and five times as many examples of each property.
IN_MEMORY = $$([ "$$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 {print $$4}')" -gt 2000000 ] 2>/dev/null && echo TMPDIR=/dev/shm)

# Nothing in them waits, so one test process a processor is enough: each of them collects all tests.
test-fast: TEST_PROCESSES = $$(nproc)
test-fast: $(VENV)/dev.installed
	@$(MAKE) --no-print-directory --jobs 3 lint
	@env $(IN_MEMORY) $(PYTEST) -m 'not (soak or slow or process or kafka or browser)' \
		-o tmp_path_retention_policy=failed --hypothesis-profile=fast $(PYTEST_OPTIONS)

lint: style types security

style: $(VENV)/dev.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/dev.installed
	@$(BIN)/mypy

security: $(VENV)/dev.installed
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive eventvault app worker scripts gunicorn.conf.py wsgi.py

format: $(VENV)/dev.installed
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

soak: $(VENV)/dev.installed system-packages
	@$(BIN)/pytest -m soak $(PYTEST_OPTIONS)

bench: bench-serve bench-backup bench-journal bench-past bench-health bench-full-disk bench-streams bench-rehearsal bench-import bench-command-line bench-page bench-jobs bench-kafka bench-publish

bench-serve: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_serve $(BENCH_OPTIONS)

bench-backup: $(VENV)/dev.installed
	@scripts/system-packages pigz zstd restic borg:borgbackup
	@exec $(BIN)/python -m benchmarks.bench_backup $(BENCH_OPTIONS)

bench-past: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_past $(BENCH_OPTIONS)

bench-health: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_health $(BENCH_OPTIONS)

bench-full-disk: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_full_disk $(BENCH_OPTIONS)

bench-streams: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_streams $(BENCH_OPTIONS)

bench-rehearsal: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_rehearsal $(BENCH_OPTIONS)

bench-import: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_import $(BENCH_OPTIONS)

bench-command-line: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_command_line $(BENCH_OPTIONS)

bench-publish: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_publish $(BENCH_OPTIONS)

bench-page: $(VENV)/dev.installed
	@scripts/system-packages chromium
	@exec $(BIN)/python -m benchmarks.bench_page $(BENCH_OPTIONS)

# Celery and Dramatiq, which it compares with, are installed in an environment of their own.
bench-jobs: $(VENV)/dev.installed
	@scripts/system-packages redis-server java:default-jre-headless mvn:maven
	@exec $(BIN)/python -m benchmarks.bench_jobs $(BENCH_OPTIONS)

bench-kafka: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_kafka $(BENCH_OPTIONS)

bench-journal: $(VENV)/dev.installed
	@exec $(BIN)/python -m benchmarks.bench_journal $(BENCH_OPTIONS)

docs: $(VENV)/runtime.installed
	@$(BIN)/python -m eventvault.settings_docs
	@$(BIN)/python -m app.errors_docs
	@$(BIN)/python scripts/source_map.py

# Pictures of every state of the dashboard; those that docs/ shows are made anew too.
PICTURES ?= tests/target/pictures

pictures: $(VENV)/dev.installed system-packages
	@EVENTVAULT_PICTURES=$(PICTURES) $(PYTEST) -m 'browser' tests/browser/test_states.py $(PYTEST_OPTIONS)
	@for picture in docs/pictures/*.webp; do cp "$(PICTURES)/$${picture##*/}" docs/pictures/; done

vendor: $(VENV)/runtime.installed
	@$(BIN)/python scripts/vendor_ui.py

lock: $(VENV)/dev.installed
	$(LOCK) $(LOCK_OPTIONS) --output-file requirements.txt requirements.in
	$(LOCK) $(LOCK_OPTIONS) --constraint requirements.txt --output-file requirements-dev.txt requirements-dev.in
	$(LOCK) $(LOCK_OPTIONS) --output-file benchmarks/job-peers.txt benchmarks/job-peers.in

upgrade:
	@$(MAKE) lock LOCK_OPTIONS=--upgrade

system-packages:
	@scripts/system-packages nginx caddy openssl 'chromium-headless-shell|chromium' firefox-esr bsdtar:libarchive-tools pigz jq java:default-jre-headless mvn:maven \
		mkfs.ext4:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs fusermount3:fuse3 \
		b3sum busybox zsh fish 7z:p7zip-full promtool:prometheus "cc:gcc libc6-dev"

# In a new clone each test process would compile all modules of the tests for itself. The tests tell what is wrong with one.
compiled-tests: $(VENV)/dev.installed
	@[ -e tests/__pycache__ ] || $(BIN)/pytest --collect-only --quiet >/dev/null 2>&1 || true

# Apache Kafka for the tests, fetched and formatted. The tests that need it tell why it is not there.
broker: $(VENV)/dev.installed system-packages
	@[ -n "$$KAFKA_BOOTSTRAP_SERVERS" ] || $(BIN)/python -c \
		'from tests.kafka_process import formatted_storage, kafka_jars; formatted_storage(kafka_jars())' 2>/dev/null || true

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis .import_linter_cache tests/target
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/runtime.installed: requirements.txt pyproject.toml
	@scripts/install $(VENV) requirements.txt
	@touch $@

$(VENV)/dev.installed: requirements-dev.txt pyproject.toml
	@scripts/install $(VENV) requirements-dev.txt
	@touch $@ $(VENV)/runtime.installed

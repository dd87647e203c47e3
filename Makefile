# Thin: what needs logic is in run.py, which works without make too.
# make run PORT=8100 KAFKA_PORT=9192 DATA=some/folder    several copies side by side

PYTHON ?= python3
export PORT KAFKA_PORT
ifdef DATA
export DATA
endif
BIN = .venv/bin

.PHONY: run test faults bench lint types check audit lock format screenshots

run:
	@exec $(PYTHON) run.py

test:
	@exec $(PYTHON) run.py test $(ARGS)

# The fault suite in its long form, hours of it; SHORT=1: as `make test` runs it. FAULTS_SEED repeats a run; SOAK_SECONDS.
faults:
	@exec env $(if $(SHORT),,FAULTS=long) $(PYTHON) run.py test tests/faults $(ARGS)

.venv/installed-dev: requirements/dev.txt
	$(PYTHON) run.py venv

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: .venv/installed-dev
	$(BIN)/mypy

check: .venv/installed-dev
	SECRET_KEY=$$($(BIN)/python -c "import secrets; print(secrets.token_urlsafe(50))") ALLOWED_HOSTS=example.org \
		BEHIND_PROXY=1 $(BIN)/python manage.py check --deploy --fail-level WARNING
	TUTORIALKAFKA_CHECKOUT=1 $(BIN)/python manage.py makemigrations --check --dry-run

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# make bench ONLY=consume,relay    a part; QUICK=1: a smoke run
bench: .venv/installed-dev
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick)

# Known vulnerabilities in what the lock names; asks a service on the network, so it is no test. --strict: a package that
# could not be looked up is a failure, too.
audit: .venv/installed-dev
	$(BIN)/pip-audit --requirement requirements/dev.txt --require-hashes --disable-pip --strict

screenshots: .venv/installed-dev
	PYTHONPATH=. $(BIN)/python docs/screenshots.py

# The pages' second language: collects what is to be translated and compiles it; needs gettext (Debian: apt-get install gettext).
messages: .venv/installed-dev
	for app in tk tkcons; do (cd $$app && ../$(BIN)/django-admin makemessages -l de --no-location --no-obsolete -v 0 \
		&& ../$(BIN)/django-admin compilemessages -v 0) || exit 1; done

# New versions of everything; needs uv. No index address may get into the locks.
lock:
	cd requirements && for name in run dev; do uv pip compile --quiet --universal --upgrade --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header --no-annotate --python-version 3.11 $$name.in -o $$name.txt; done

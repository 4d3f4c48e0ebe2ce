# syntax=docker/dockerfile:1
# One image for migrate, gateway and worker; docker-compose.yml says what each of them runs.

FROM ghcr.io/astral-sh/uv:0.13.9 AS uv

# The Python and the Debian that the tests run on.
FROM python:3.11-slim-bookworm AS build
COPY --from=uv /uv /usr/local/bin/uv
ENV UV_PROJECT_ENVIRONMENT=/opt/stellwerk \
    UV_PYTHON_DOWNLOADS=never \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy
WORKDIR /build
# What changes seldom comes first: dependencies are installed again only when the lock changes.
COPY pyproject.toml uv.lock ./
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-default-groups --no-install-project
COPY README.md LICENSE ./
COPY app app
COPY workers workers
COPY migrations migrations
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --locked --no-default-groups --no-editable
# No environment is made for the tests of a project that is repaired: they find what is here.
RUN --mount=type=cache,target=/root/.cache/uv \
    uv export --locked --quiet --only-dev --no-hashes --output-file /tmp/dev.txt \
    && uv pip install --python /opt/stellwerk --constraint /tmp/dev.txt pytest

FROM python:3.11-slim-bookworm
# git makes the workspaces, ssh clones private repositories, bubblewrap encloses projects' tests.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends bubblewrap ca-certificates git openssh-client \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home stellwerk \
    # A volume that is mounted here for the first time takes over the owner.
    && install --directory --owner=stellwerk --group=stellwerk /workspaces
COPY --from=build /opt/stellwerk /opt/stellwerk
COPY scripts/sandbox /usr/local/bin/sandbox
ENV PATH=/opt/stellwerk/bin:$PATH \
    PYTHONUNBUFFERED=1
USER stellwerk
WORKDIR /home/stellwerk
CMD ["stellwerk", "--help"]

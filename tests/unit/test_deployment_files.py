"""What the files of the deployment promise."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.gateway.__main__ import SHUTDOWN_SECONDS
from tests.composition import LISTEN, LISTEN_TLS, NGINX, ROOT, SECRETS, Missing, composition, duration
from workers.process.runtime import SHUTDOWN_GRACE_SECONDS

OURS = ("migrate", "gateway", "worker")
VERSION = re.compile(r":v?\d+(\.\d+)*(-[a-z]+)*$")
DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = composition(SECRETS)["services"]
    return found


@pytest.mark.parametrize("name", SECRETS)
def test_secrets_have_no_default(name: str) -> None:
    with pytest.raises(Missing, match=name):
        composition(SECRETS | {name: ""})


def test_every_variable_is_a_setting(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    known = {f"STELLWERK_{name.upper()}" for name in Settings.model_fields}
    for name in OURS:
        environment = services[name]["environment"]
        assert set(environment) <= known
        with monkeypatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value)
            settings = Settings(_env_file=None)
        assert not settings.on_loopback and settings.paths == (Path("/srv/projects"),)
    assert settings.sandbox


def test_services_wait_for_what_they_need(services: dict[str, Any]) -> None:
    healthy, done = {"condition": "service_healthy"}, {"condition": "service_completed_successfully"}
    ready = {"postgres": healthy, "redis": healthy, "migrate": done}
    assert services["migrate"]["depends_on"] == {"postgres": healthy}
    assert services["gateway"]["depends_on"] == services["worker"]["depends_on"] == ready
    assert services["nginx"]["depends_on"] == {"gateway": healthy}
    assert services["migrate"]["restart"] == "no"
    for name, service in services.items():
        assert name == "migrate" or service["restart"] == "unless-stopped"
        waited_for = [other for other in services.values() if other.get("depends_on", {}).get(name) == healthy]
        assert not waited_for or service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_gateways_and_workers_scale(services: dict[str, Any]) -> None:
    assert not any("container_name" in service for service in services.values())
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]
    assert services["nginx"]["ports"] == ["127.0.0.1:8080:80", "127.0.0.1:8443:443"]
    assert "listen 80;" in LISTEN and "include /etc/nginx/listen.conf;" in NGINX
    assert f"server gateway:{services['gateway']['environment']['STELLWERK_PORT']} resolve;" in NGINX
    assert any("%h" in argument for argument in services["worker"]["command"])


def test_redis_lets_in_who_knows_its_password(services: dict[str, Any]) -> None:
    password = SECRETS["REDIS_PASSWORD"]
    redis = services["redis"]
    assert all(
        f":{password}@redis" in services[name]["environment"]["STELLWERK_REDIS_URL"] for name in ("gateway", "worker")
    )
    (configuration,) = redis["configs"]
    content = composition(SECRETS)["configs"][configuration["source"]]["content"]
    assert content == f"requirepass {password}" and configuration["target"] in redis["command"]
    assert redis["environment"]["REDISCLI_AUTH"] == password and password not in " ".join(redis["command"])


def test_stopping_is_given_the_time_that_it_takes(services: dict[str, Any]) -> None:
    assert duration(services["gateway"]["stop_grace_period"]).total_seconds() > SHUTDOWN_SECONDS
    assert duration(services["worker"]["stop_grace_period"]).total_seconds() > 2 * SHUTDOWN_GRACE_SECONDS
    assert all(services[name]["init"] for name in OURS)


def test_volumes_lie_where_the_settings_say(services: dict[str, Any]) -> None:
    worker = services["worker"]
    workspaces, projects = worker["environment"]["STELLWERK_WORKSPACES"], worker["environment"]["STELLWERK_PATHS"]
    assert worker["volumes"] == [f"workspaces:{workspaces}", f"{projects}:{projects}:ro"]
    assert f"--group=stellwerk {workspaces}" in DOCKERFILE
    named = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert named - {projects} == set(composition(SECRETS)["volumes"])


def test_versions_are_pinned(services: dict[str, Any]) -> None:
    images = [service["image"] for service in services.values() if "build" not in service]
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) == 3 and len(stages) == 3
    assert all(VERSION.search(image) for image in (*images, *stages))


def test_the_image_is_built_from_what_is_there() -> None:
    copied = {
        source for line in re.findall(r"^COPY (?!--from)(.+)", DOCKERFILE, re.MULTILINE) for source in line.split()[:-1]
    }
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert copied == let_in
    assert all((ROOT / source).exists() for source in copied)
    assert os.access(ROOT / "scripts" / "sandbox", os.X_OK)
    syncs = re.findall(r"uv sync .*", DOCKERFILE)
    assert syncs and all("--locked --no-default-groups" in sync and "embedded" not in sync for sync in syncs)
    assert re.findall(r"^USER (.+)", DOCKERFILE, re.MULTILINE) == ["stellwerk"]
    assert not re.search(r"PASSWORD|TOKEN|SECRET", DOCKERFILE)


@pytest.mark.parametrize("directory", ["", "/srv/certificates"])
def test_nginx_speaks_tls_where_certificates_are_given(directory: str) -> None:
    content = composition(SECRETS | {"STELLWERK_CERTIFICATES": directory})
    (mounted,) = content["services"]["nginx"]["volumes"]
    assert mounted == f"{directory or 'certificates'}:/etc/nginx/certificates:ro"
    listen = (ROOT / content["configs"]["listen"]["file"]).read_text()
    assert listen == (LISTEN_TLS if directory else LISTEN)
    places = {source["source"]: source["target"] for source in content["services"]["nginx"]["configs"]}
    assert f"include {places['listen']};" in NGINX
    assert re.findall(r"ssl_certificate(?:_key)? (\S+);", LISTEN_TLS) == [
        "/etc/nginx/certificates/fullchain.pem",
        "/etc/nginx/certificates/privkey.pem",
    ]


def test_nginx_says_itself_who_the_client_is(services: dict[str, Any]) -> None:
    (location,) = re.findall(r"location / \{(.+?)\n        \}", NGINX, re.DOTALL)
    for name, value in (("X-Forwarded-For", "$remote_addr"), ("X-Forwarded-Proto", "$scheme"), ("Forwarded", '""')):
        assert f"proxy_set_header {name} {value};" in location
    assert services["gateway"]["environment"]["STELLWERK_TRUSTED_PROXIES"]


def test_nginx_holds_nothing_back() -> None:
    (location,) = re.findall(r"location / \{(.+?)\n        \}", NGINX, re.DOTALL)
    for directive in (
        "proxy_buffering off;",
        "proxy_request_buffering off;",
        "proxy_http_version 1.1;",
        "gzip off;",
        "proxy_read_timeout 5m;",
    ):
        assert directive in location

"""A real nginx with the configuration of the deployment, for tests; and a certificate for it."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.embedded.home import free_port
from tests.composition import LISTEN, LISTEN_TLS, NGINX
from tests.processes import wait_until
from tests.surroundings import optional_program


def until_it_answers(url: str, *statuses: int) -> None:
    wait_until(lambda: httpx.get(url).status_code in statuses, what=url, patience=90, retry_on=httpx.TransportError)


@contextmanager
def nginx(directory: Path, gateways: list[str], *, certificates: Path | None = None) -> Iterator[str]:
    """A real nginx with the deployment's configuration, in which only the addresses differ; yields its own.

    With certificates it is that of the port that speaks TLS.
    """
    binary = optional_program("nginx")
    if binary is None:
        pytest.skip("nginx is not installed")
    address, encrypted = (f"127.0.0.1:{free_port()}" for _ in range(2))
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path '{directory}/{kind}';" for kind in kinds)  # its own are for root only
    listen = LISTEN if certificates is None else listen_with_tls(binary, encrypted, certificates)
    configuration = NGINX.replace("include /etc/nginx/listen.conf;", listen)
    for ours, other in {
        "server gateway:8000 resolve;": " ".join(f"server {gateway};" for gateway in gateways),
        "listen 80;": f"listen {address};",
        "http {": f"http {{ {temporary}",
    }.items():
        assert configuration.count(ours) == 1
        configuration = configuration.replace(ours, other)
    (directory / "nginx.conf").write_text(configuration)
    arguments: list[str | Path] = [
        "-p",
        directory,
        "-c",
        directory / "nginx.conf",
        "-g",
        f"daemon off; pid '{directory}/nginx.pid';",
    ]
    with (directory / "nginx.log").open("wb") as output:
        process = subprocess.Popen([binary, *arguments], stdout=output, stderr=output)
    try:
        until_it_answers(f"http://{address}/healthz", 200, 503)
        yield address if certificates is None else encrypted
    finally:
        process.terminate()
        process.wait(timeout=10)


def listen_with_tls(binary: str, address: str, certificates: Path) -> str:
    """What listens with certificates, in the words of this nginx."""
    said = subprocess.run([binary, "-v"], capture_output=True, text=True, check=True).stderr
    version = re.findall(r"nginx/(\d+)\.(\d+)", said)[0]
    listen = LISTEN_TLS.replace("/etc/nginx/certificates", str(certificates)).replace("443", address)
    if tuple(map(int, version)) < (1, 25):
        listen = listen.replace("http2 on;", "").replace(f"{address} ssl;", f"{address} ssl http2;")
    return listen


def make_certificate(directory: Path) -> None:
    """Puts into the directory a certificate for this machine, signed by itself, and its key."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "stellwerk")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / "fullchain.pem").write_bytes(certificate.public_bytes(pem))
    kept = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (directory / "privkey.pem").write_bytes(kept)

"""A worker process' own metrics over HTTP, for Prometheus: a thread beside the event loop, which agents may hold."""

import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from urllib.parse import urlsplit

import structlog
from pydantic import SecretStr

from app import metrics
from app.config import LOOPBACK, Settings

logger = structlog.get_logger(__name__)

SILENT_SECONDS = 10.0
"""A client that neither asks nor reads for this long is left."""
POLL_SECONDS = 0.1
"""The end of the process waits no longer for the thread."""


class MetricsServer(ThreadingHTTPServer):
    """Serves as soon as it is made, on daemon threads. Raises OSError where the address cannot be had."""

    def __init__(self, host: str, port: int, token: SecretStr | None) -> None:
        self.token = token
        self.address_family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        super().__init__((host, port), _Handler)
        threading.Thread(target=self.serve_forever, args=(POLL_SECONDS,), name="metrics", daemon=True).start()

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks the DNS for the host's name, which may take long

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def handle_error(self, request: object, client_address: object) -> None:
        logger.debug("a client of the metrics left", exc_info=True)

    def stop(self) -> None:
        """Blocks for a moment."""
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    timeout = SILENT_SECONDS

    def do_GET(self) -> None:
        scheme, _, given = self.headers.get("Authorization", "").partition(" ")
        token = self.server.token
        if token is not None and not (scheme.lower() == "bearer" and metrics.is_token(given, token)):
            say = b"send STELLWERK_METRICS_TOKEN as 'Authorization: Bearer TOKEN'\n"
            self._answer(401, "text/plain", say, {"WWW-Authenticate": "Bearer"})
        elif token is None and urlsplit(f"//{self.headers.get('Host', '')}").hostname not in LOOPBACK:
            self._answer(421, "text/plain", b"a page that another name led here gets nothing\n")
        elif self.path.partition("?")[0] != "/metrics":
            self._answer(404, "text/plain", b"there is only /metrics\n")
        else:
            encode, media_type = metrics.encoder_for(self.headers.get("Accept"))
            self._answer(200, media_type, encode(metrics.REGISTRY))

    def _answer(self, status: int, media_type: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": media_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        """Writes no line for each scrape."""


def serve_metrics(settings: Settings) -> MetricsServer | None:
    """None where they are not wanted; or, with a line in the log, where they cannot or must not be shown."""
    host, port = settings.metrics_host, settings.metrics_port
    if port is None:
        return None
    if settings.metrics_token is None and host not in LOOPBACK:
        logger.error("no metrics are shown beyond loopback without STELLWERK_METRICS_TOKEN", host=host)
        return None
    try:
        server = MetricsServer(host, port, settings.metrics_token)
    except OSError as error:
        logger.warning("no metrics are shown: the address cannot be had", host=host, port=port, error=str(error))
        return None
    logger.info("metrics are shown", host=host, port=server.port)
    return server

"""structlog for all processes: readable on a terminal, JSON otherwise; also for the libraries' own lines.

No secret stands in a line, whoever wrote it, nor in the traceback of what nothing catches.
"""

import logging
import sys
import threading
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from app.config import Settings
from app.known_secrets import Secrets
from app.redaction import Redactor
from app.terminal import clean_lines


def configure_logging(settings: Settings) -> None:
    """Call once per process, before the first line. Log lines go to standard error."""
    as_text = settings.log_format == "text" or (settings.log_format == "auto" and sys.stderr.isatty())
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,  # session, step and attempt of the running step
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    on_terminal: list[Processor] = [
        structlog.processors.format_exc_info,
        _for_terminal,
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback),
    ]
    as_json: list[Processor] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            Redactor(Secrets.of(settings)),
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *(on_terminal if as_text else as_json),
            ],
        )
    )
    sys.excepthook = _log_uncaught
    threading.excepthook = lambda gone: _log_uncaught(gone.exc_type, gone.exc_value, gone.exc_traceback)
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "alembic.runtime.plugins", "celery.worker.strategy", "kombu"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))


def _for_terminal(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    return {name: clean_lines(value) if isinstance(value, str) else value for name, value in line.items()}


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Redacts the finished line, in which messages, fields and tracebacks are together."""

    def __init__(self, redactor: Redactor, **options: Any) -> None:
        super().__init__(**options)
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        return self._redactor.text(super().format(record))


def _log_uncaught(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if not issubclass(kind, KeyboardInterrupt | SystemExit):
        logging.getLogger("stellwerk").critical("uncaught", exc_info=(kind, error or kind(), trace))

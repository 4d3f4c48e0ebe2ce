"""`python -m app.gateway`: serves until SIGTERM."""

import gc
import sys
from contextlib import suppress

from app.config import settings
from app.errors import BadInput
from app.gateway.server import make_server
from app.logging import configure_logging
from app.privacy import NOT_FOR_GATEWAYS, be_private, without

SHUTDOWN_SECONDS = 8
NOT_STARTED = 3


def main() -> int:
    be_private(forget=NOT_FOR_GATEWAYS)
    configuration = without(settings(), NOT_FOR_GATEWAYS)
    configure_logging(configuration)
    try:
        server = make_server(
            configuration,
            host=configuration.host,
            port=configuration.port,
            # uvloop takes one new connection a round: 2,000 readers that lost their gateway got in after 8 s, not 3.
            loop="asyncio",
            timeout_graceful_shutdown=SHUTDOWN_SECONDS,  # without it an open stream keeps the process for ever
        )
    except BadInput as error:
        print(f"gateway: {error}", file=sys.stderr)  # noqa: T201  # to the person who starts it
        return 2
    gc.collect()
    gc.freeze()  # what is imported stays: the collector need not look at it again after some new connections
    with suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else NOT_STARTED


if __name__ == "__main__":
    sys.exit(main())

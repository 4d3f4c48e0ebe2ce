"""A second process: reads values as the codec wrote them, a line each, and writes each as it would itself."""

import sys

import orjson

from tests.values import samples  # noqa: F401 - as the module of a workflow does, it brings the classes
from workers.graph.codec import Codec
from workers.graph.serializer import ExactSerializer

if __name__ == "__main__":
    codec = Codec(ExactSerializer())
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(orjson.dumps(codec.encode(codec.decode(orjson.loads(line)))) + b"\n")
        sys.stdout.buffer.flush()

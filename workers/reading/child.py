"""The process that reads a project: run as a script, by path, with the places to import from as arguments.

    child.py VERB PLACE …

VERB is one of the modules beside this one that has `answer`. Standard input holds the request as one line of JSON,
and what belongs to it; each line of standard output is one JSON value of the answer.
"""

import importlib
import json
import sys


def main(verb: str, *places: str) -> None:
    sys.path.extend(places)
    module = importlib.import_module(f"workers.reading.{verb}")
    request = json.loads(sys.stdin.buffer.readline())
    for part in module.answer(request):
        sys.stdout.write(json.dumps(part) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

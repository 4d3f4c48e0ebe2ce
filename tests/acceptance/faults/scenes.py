"""All scenes of scale, by name."""

from tests.acceptance.faults.backlog import backlog
from tests.acceptance.faults.scale import big_history, reconnect_storm, slow_readers

SCENES = {scene.__name__: scene for scene in (slow_readers, reconnect_storm, big_history, backlog)}

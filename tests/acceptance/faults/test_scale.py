"""Many readers and many sessions at a size that fits into the suite; `scripts/scale --full` does it in earnest."""

from collections.abc import Callable

import pytest

from tests.acceptance.faults.scale import Size
from tests.acceptance.faults.scenes import SCENES


@pytest.mark.parametrize("name", SCENES)
async def test_scale(name: str, record_property: Callable[[str, object], None]) -> None:
    for line in await SCENES[name](Size()):
        record_property(name, line)

"""Many readers at a size that fits into the suite; `scripts/readers --full` does it in earnest."""

from collections.abc import Callable

import pytest

from tests.acceptance.faults.scale import SCENES, Size


@pytest.mark.parametrize("name", SCENES)
async def test_readers(name: str, record_property: Callable[[str, object], None]) -> None:
    for line in await SCENES[name](Size()):
        record_property(name, line)

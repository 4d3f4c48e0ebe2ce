"""Many readers at a size that fits into the suite; `scripts/readers --full` does it in earnest."""

from collections.abc import Callable

import pytest

from tests.acceptance.faults.scale import SCENES, Size


# slow_readers counts the gateway's open files, which is too coarse on a small machine: `scripts/readers` has it.
@pytest.mark.parametrize("name", [name for name in SCENES if name != "slow_readers"])
async def test_readers(name: str, record_property: Callable[[str, object], None]) -> None:
    for line in await SCENES[name](Size()):
        record_property(name, line)

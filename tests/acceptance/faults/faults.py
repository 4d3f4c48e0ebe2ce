"""All faults."""

from tests.acceptance.faults import program_faults, server_faults

FAULTS = program_faults.FAULTS | server_faults.FAULTS

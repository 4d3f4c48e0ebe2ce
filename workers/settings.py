"""current_settings(): where the running step's agent, and what it calls, find their settings."""

from contextvars import ContextVar

from app.config import Settings
from app.errors import NoCurrentStep

step_settings: ContextVar[Settings] = ContextVar("step_settings")
"""The step runner sets it to the settings of its process."""


def current_settings() -> Settings:
    """Returns the settings under which the step runs. Raises NoCurrentStep outside of a step."""
    try:
        return step_settings.get()
    except LookupError:
        raise NoCurrentStep("There are no settings here; current_settings() works in a step.") from None

"""A session's budget in money and tokens. Who reaches it asks a person, and nothing is thrown away."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langgraph.types import interrupt

from app.config import Settings
from app.errors import BudgetExhausted
from workers.models.gate import Spending

QUESTION = "budget"
"""Marks the question in the log, where the answers of other steps are found by it."""


@dataclass(frozen=True, slots=True)
class Budget:
    """None: no limit."""

    usd: float | None
    tokens: int | None

    def raised(self, answer: Any, by: "Budget") -> "Budget":
        """An answer names what is added: dollars, or {"usd": …, "tokens": …}; a mere yes adds `by` once more."""
        usd, tokens = by.usd, by.tokens
        if isinstance(answer, int | float) and not isinstance(answer, bool):
            usd = float(answer)
        elif isinstance(answer, dict):
            usd, tokens = answer.get("usd", usd), answer.get("tokens", tokens)
        return Budget(_added(self.usd, usd), _added(self.tokens, tokens))

    def is_reached(self, spending: Spending) -> bool:
        return (self.usd is not None and spending.usd >= self.usd) or (
            self.tokens is not None and spending.tokens >= self.tokens
        )

    def left_usd(self, spending: Spending) -> float | None:
        return None if self.usd is None else self.usd - spending.usd


def _added(limit: Any, more: Any) -> Any:
    return None if limit is None else limit + (more or 0)


def session_budget(settings: Settings, raises: Sequence[Any]) -> Budget:
    """The budget of the settings, with what people added when other steps asked."""
    first = Budget(settings.session_budget_usd, settings.session_budget_tokens)
    budget = first
    for answer in raises:
        budget = budget.raised(answer, first)
    return budget


def within_budget(spending: Spending, settings: Settings) -> Budget:
    """The budget, once there is something left of it: else the step asks, and waits without a worker.

    A node runs again from its start with the answers so far, which are given in the order of the questions.
    Raises BudgetExhausted when a person refused.
    """
    first = Budget(settings.session_budget_usd, settings.session_budget_tokens)
    budget = session_budget(settings, spending.raises)
    while budget.is_reached(spending):
        answer = interrupt(
            {
                "kind": QUESTION,
                "question": "raise the budget?",
                "spent": {"usd": round(spending.usd, 6), "tokens": spending.tokens},
                "budget": {"usd": budget.usd, "tokens": budget.tokens},
                "answer": 'approved (the same again), a number of USD to add, or {"usd": …, "tokens": …}',
            }
        )
        if answer in ("rejected", False):
            raise BudgetExhausted
        budget = budget.raised(answer, first)
    return budget

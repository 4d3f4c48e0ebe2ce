"""What a call costs by list price."""

from collections.abc import Mapping
from decimal import Decimal

from workers.models.gate import Provider


def list_price(provider: Provider, model: str, usage: Mapping[str, int]) -> float | None:
    """The price in USD; None for a model that no list knows, such as one that runs at home."""
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - its tables are large, and few workers need them

    counted = Usage(input_tokens=usage.get("input_tokens", 0), output_tokens=usage.get("output_tokens", 0))
    try:
        price: Decimal = calc_price(counted, model, provider_id=provider).total_price
    except LookupError:
        return None
    return float(price)

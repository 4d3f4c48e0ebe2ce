"""What a call costs by list price."""

from collections.abc import Mapping
from decimal import Decimal

LISTED = {
    "amazon_bedrock": "aws",
    "anthropic": "anthropic",
    "azure": "azure",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "google_genai": "google",
    "google_vertexai": "google",
    "groq": "groq",
    "mistral": "mistral",
    "mistralai": "mistral",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "xai": "x-ai",
}
"""How the list names the providers that we and LangChain know; the others have no price."""


def list_price(provider: str, model: str, usage: Mapping[str, int]) -> float | None:
    """The price in USD; None for a model that no list knows, such as one that runs at home."""
    listed = LISTED.get(provider)
    if listed is None:
        return None
    from genai_prices import Usage, calc_price  # noqa: PLC0415 - its tables are large, and few workers need them

    counted = Usage(
        input_tokens=usage.get("input_tokens", 0),
        output_tokens=usage.get("output_tokens", 0),
        cache_read_tokens=usage.get("cache_read_tokens", 0),
        cache_write_tokens=usage.get("cache_write_tokens", 0),
    )
    try:
        price: Decimal = calc_price(counted, model, provider_id=listed).total_price
    except (LookupError, ValueError):  # no such model; more tokens from a cache than there were
        return None
    return float(price)

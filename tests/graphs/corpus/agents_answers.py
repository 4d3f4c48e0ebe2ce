"""Structured output of agents, by tools and by the provider, and of a model in a node."""

from dataclasses import dataclass
from typing import Any, Literal

from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.messages import AIMessage
from langchain_core.output_parsers import StrOutputParser
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.scripted import agent, asks, call, heard, look_up, pay, says


class Place(BaseModel):
    name: str
    height: int = Field(ge=0)


class Weather(BaseModel):
    """How it is outside."""

    sky: Literal["clear", "cloudy"]
    degrees: float
    place: Place | None = None


@dataclass
class Score:
    points: int
    why: str


class Address(TypedDict):
    street: str
    number: int


class Report(MessagesState, total=False):
    weather: Weather
    anything: Any
    text: str


JSON_SCHEMA = {
    "title": "Person",
    "description": "A person.",
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
GOOD = {"sky": "clear", "degrees": 21.5, "place": {"name": "north", "height": 12}}
WEATHER = [call("Weather", "w", **GOOD)]
CLOUDY = [call("Weather", "v", sky="cloudy", degrees=-1)]
BAD = [call("Weather", "x", sky="green", degrees="warm")]
SCORE = [call("Score", "s", points=3, why="so")]
LOOK = [call("look_up", "a", word="x"), call("pay", "b", amount=1)]
PROVIDED = '{"sky": "clear", "degrees": 20, "place": null}'


def case(name: str, form: Any, *turns: Any, **options: Any) -> Case:
    middleware, profile = options.pop("middleware", ()), options.pop("profile", None)
    model = says(*turns, ids=options.pop("ids", True), profile=profile)
    graph = agent(model, [look_up, pay], *middleware, response_format=form)
    return Case(f"agent_answers_{name}", "agents: structured output", graph, asks("how is it?"), **options)


def structured_in_a_node() -> StateGraph[Any]:
    """`with_structured_output` and a parser inside of nodes, whose values go into typed and untyped fields."""
    model = says(WEATHER, CLOUDY, "plain text", label="inner")

    async def typed(state: Report) -> dict[str, Any]:
        happened("typed")
        return {"weather": await model.with_structured_output(Weather).ainvoke(state["messages"])}

    def untyped(state: Report) -> dict[str, Any]:
        happened(f"untyped after {type(state['weather']).__name__}")
        return {"anything": [model.with_structured_output(Weather).invoke(state["messages"]), state["weather"]]}

    async def parsed(state: Report) -> dict[str, Any]:
        happened(f"parsed after {state['anything'][0]!r}")
        said = await (says(heard, label="parser") | StrOutputParser()).ainvoke(state["messages"])
        return {"text": said, "messages": [AIMessage(f"it is {state['weather'].sky}", id="last")]}

    graph = StateGraph(Report)
    graph.add_sequence([typed, untyped, parsed])
    graph.add_edge(START, "typed")
    return graph


reviewed = HumanInTheLoopMiddleware[Any, Any, Any](interrupt_on={"pay": True})

CASES = [
    case("model_class", Weather, LOOK, WEATHER),
    case("model_class_without_ids", Weather, LOOK, WEATHER, ids=False),
    case("tool", ToolStrategy(Weather), WEATHER),
    case("tool_with_a_message", ToolStrategy(Weather, tool_message_content="noted"), LOOK, WEATHER),
    case("tool_beside_a_tool", ToolStrategy(Weather), [*LOOK, *WEATHER], CLOUDY),
    case("tool_that_is_wrong_at_first", ToolStrategy(Weather), BAD, WEATHER),
    case("tool_that_is_wrong_with_a_word", ToolStrategy(Weather, handle_errors="once more"), BAD, BAD, WEATHER),
    case("tool_that_is_wrong", ToolStrategy(Weather, handle_errors=False), BAD, WEATHER, raises="Failed to parse"),
    case("two_of_one", ToolStrategy(Weather), [*WEATHER, *CLOUDY], WEATHER),
    case("one_of_two_forms", ToolStrategy(Weather | Score), LOOK, SCORE),
    case("dataclass", ToolStrategy(Score), LOOK, SCORE),
    case("typed_dict", ToolStrategy(Address), [call("Address", "a", street="long", number=3)]),
    case("json_schema", ToolStrategy(JSON_SCHEMA), [call("Person", "a", name="Ada", age=36)]),
    case("raw_json_schema", JSON_SCHEMA, [call("Person", "a", name="Ada", age=36)]),
    case("provider", ProviderStrategy(Weather), LOOK, PROVIDED),
    case("provider_dataclass", ProviderStrategy(Score), '{"points": 3, "why": "so"}'),
    case("provider_json_schema", ProviderStrategy(JSON_SCHEMA), LOOK, '{"name": "Ada", "age": 36}'),
    case("provider_that_is_wrong", ProviderStrategy(Weather), "it is warm", raises="Native structured output"),
    case("provider_by_profile", Weather, LOOK, PROVIDED, profile={"structured_output": True}),
    case(
        "after_a_review",
        ToolStrategy(Weather),
        LOOK,
        WEATHER,
        middleware=[reviewed],
        answers=[{"decisions": [{"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 5}}}]}],
    ),
    Case("structured_output_in_a_node", "agents: structured output", structured_in_a_node(), asks("how is it?")),
]

"""What an agent's messages may hold: blocks, artifacts of any kind, and conversations that were begun elsewhere."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, SystemMessage, trim_messages
from langchain_core.output_parsers import JsonOutputParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pydantic import BaseModel

from tests.graphs.cases import Case
from tests.graphs.corpus.agents_nested import Round
from tests.graphs.effects import happened
from tests.graphs.scripted import agent, asks, call, heard, look_up, pay, says


class Found(BaseModel):
    word: str
    place: "Place | None" = None


@dataclass
class Place:
    page: int
    price: Decimal


@tool(response_format="content_and_artifact")
async def retrieve(word: str) -> tuple[str, list[Document]]:
    """Finds documents."""
    happened(f"retrieve {word}")
    return f"two about {word}", [
        Document(f"{word} {number}", metadata={"page": number}, id=str(number)) for number in (1, 2)
    ]


@tool(response_format="content_and_artifact")
async def download(word: str) -> tuple[str, dict[Any, Any]]:
    """Fetches bytes and other things that are no JSON."""
    happened(f"download {word}")
    return "done", {"raw": word.encode(), "pair": (1, 2), "set": {word}, "price": Decimal("1.10"), 3: None}


@tool(response_format="content_and_artifact")
async def search(word: str) -> tuple[str, Found]:
    """Gives a model that stands in no schema."""
    happened(f"search {word}")
    return f"found {word}", Found(word=word, place=Place(3, Decimal("2.50")))


@tool
async def picture(word: str) -> list[dict[str, Any]]:
    """Shows a picture."""
    happened(f"picture {word}")
    return [{"type": "text", "text": word}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]


@tool
async def numbers(count: int) -> dict[str, Any]:
    """Gives a dict, which LangChain writes as JSON."""
    happened(f"numbers {count}")
    return {"numbers": list(range(count)), "word": "grün", "half": 0.5}


THOUGHT = AIMessage(
    [
        {"type": "reasoning", "reasoning": "let me see", "id": "r1"},
        {"type": "text", "text": "I shall look", "annotations": [{"type": "citation", "url": "http://example.com"}]},
    ],
    tool_calls=[call("look_up", "a", word="x")],
    additional_kwargs={"refusal": None, "parsed": {"a": [1, None]}},
    name="thinker",
)
BEGUN = {
    "messages": [
        {"role": "system", "content": "Be brief.", "id": "s"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "http://example.com/x.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": "",
            "id": "before",
            "tool_calls": [{"name": "look_up", "args": {"word": "w"}, "id": "t", "type": "tool_call"}],
        },
        {"role": "tool", "content": "w is a word", "tool_call_id": "t", "name": "look_up"},
        {"role": "user", "content": "and now?", "name": "Ada"},
    ]
}


def chained() -> Any:
    """A prompt, a model and a parser as nodes, and messages of all kinds between them."""
    prompt = ChatPromptTemplate.from_messages([("system", "Speak of {topic}."), ("placeholder", "{messages}")])

    async def prompted(state: Round) -> dict[str, Any]:
        chain = prompt | says(heard, label="chain") | StrOutputParser()
        return {"log": [await chain.ainvoke({"topic": "words", "messages": state["messages"]})]}

    def parsed(state: Round) -> dict[str, Any]:
        chain = says('{"good": [1, 2.5, null]}', label="json") | JsonOutputParser()
        return {
            "log": [str(chain.invoke(state["messages"]))],
            "messages": [ChatMessage(content="as a critic", role="critic")],
        }

    async def trimmed(state: Round) -> dict[str, Any]:
        kept = trim_messages(state["messages"], max_tokens=1, token_counter=len, strategy="last", allow_partial=False)
        retried = says(heard, label="retried", failures=2).with_retry(wait_exponential_jitter=False)
        return {"messages": [SystemMessage(f"{len(kept)} kept"), await retried.ainvoke([*kept])]}

    async def fallen_back(state: Round) -> dict[str, Any]:
        model = says(label="gone", failures=9).with_fallbacks([says(heard, label="there")])
        return {"messages": await model.ainvoke(state["messages"])}

    return StateGraph(Round).add_sequence([prompted, parsed, trimmed, fallen_back]).add_edge(START, "prompted")


def given_calls() -> Any:
    """A `ToolNode` in a row, whose calls a node of one's own has made."""

    def plan(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {
            "messages": [AIMessage("", tool_calls=[call("look_up", "a", word="x"), call("retrieve", "b", word="y")])]
        }

    row: list[Any] = [plan, ("tools", ToolNode([look_up, retrieve]))]
    return StateGraph(MessagesState).add_sequence(row).add_edge(START, "plan")


def case(name: str, *turns: Any, tools: Any = (look_up, pay), given: Any = None, **options: Any) -> Case:
    graph = agent(says(*turns, ids=options.pop("ids", True)), tools, **options)
    return Case(f"agent_values_{name}", "agents: values", graph, given or asks("go"))


def twice(name: str, **arguments: Any) -> Any:
    return [call(name, "a", **arguments), call(name, "b", **arguments)]


CASES = [
    case("documents", twice("retrieve", word="x"), heard, tools=[retrieve]),
    case("no_json", twice("download", word="x"), heard, tools=[download]),
    case("model_of_no_schema", twice("search", word="x"), heard, tools=[search]),
    case("pictures", twice("picture", word="x"), heard, tools=[picture]),
    case("dicts", twice("numbers", count=3), heard, tools=[numbers]),
    case("blocks_of_the_model", THOUGHT, heard),
    case("blocks_of_the_model_without_ids", THOUGHT, heard, ids=False),
    case("begun_elsewhere", [call("pay", "b", amount=1)], heard, given=BEGUN),
    case("one_message_as_text", heard, given={"messages": "just a text"}),
    case(
        "system_message",
        heard,
        system_prompt=SystemMessage([{"type": "text", "text": "Be", "cache_control": {"type": "ephemeral"}}]),
    ),
    Case("chains_in_nodes", "agents: values", chained(), asks("go")),
    Case("tool_node_in_a_row", "agents: values", given_calls(), asks("go")),
]

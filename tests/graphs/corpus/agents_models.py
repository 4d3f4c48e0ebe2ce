"""Which model answers, with which tools, word by word or at once; and models in the place of tools."""

import warnings
from pathlib import Path
from typing import Any

from langchain.agents.middleware import (
    AutoModeMiddleware,
    FilesystemFileSearchMiddleware,
    HumanInTheLoopMiddleware,
    LLMToolEmulator,
    LLMToolSelectorMiddleware,
    ModelChoice,
    ModelRouterMiddleware,
    ProviderToolSearchMiddleware,
)
from langchain_core._api import LangChainBetaWarning
from langchain_core.decisions import BaseDecisionModel, ClassifierResponse
from langchain_core.tools import tool
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.scripted import StreamingModel, agent, asks, call, heard, look_up, pay, says


class Decides(BaseDecisionModel):
    """Answers yes with the probability `risk` and chooses the label `choice`."""

    model: str = "decides"
    risk: float = 0.0
    choice: str = ""

    @property
    def _provider(self) -> str:
        return "scripted"

    def _classify(self, state: Any, questions: Any) -> ClassifierResponse:
        happened(f"decide {sorted(questions)}")
        answers = {
            name: {"type": "noul", "noul": self.risk}
            if question.type == "noul"
            else {
                "type": "choice",
                "choice": self.choice,
                "probabilities": dict.fromkeys(question.criteria, 0.5),
                "confidence": 0.5,
            }
            for name, question in questions.items()
        }
        return ClassifierResponse.model_validate({"model": self.model, "answers": answers})


@tool
async def tell(word: str) -> str:
    """Tells of a word while it works."""
    happened(f"tell {word}")
    get_stream_writer()({"message": f"telling of {word}"})
    return f"told of {word}"


def routed() -> ModelRouterMiddleware:
    choices = {
        "quick": ModelChoice(says(heard, label="quick"), "simple tasks"),
        "thorough": ModelChoice(says(TWO, heard, label="thorough"), "all others"),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LangChainBetaWarning)
        return ModelRouterMiddleware(choices=choices, instructions="Choose.", classifier=Decides(choice="thorough"))


def selected(*tools: Any, **options: Any) -> LLMToolSelectorMiddleware[Any, Any]:
    turns = [[call("ToolSelectionResponse", "s", tools=list(tools))]] if tools else ["which tools?"]
    return LLMToolSelectorMiddleware(model=says(*turns, label="selector"), **options)


def streamed_in_a_node() -> StateGraph[Any]:
    model = StreamingModel(turns=["word by word by word"], label="inner")

    async def think(state: MessagesState) -> dict[str, Any]:
        parts = [chunk async for chunk in model.astream(state["messages"])]
        happened(f"{len(parts)} parts")
        return {"messages": [sum(parts[1:], parts[0])]}

    graph = StateGraph(MessagesState)
    graph.add_node(think)
    graph.add_edge(START, "think")
    return graph


def case(name: str, model: Any, *middleware: Any, tools: Any = (look_up, pay), **options: Any) -> Case:
    return Case(f"agent_{name}", "agents: models", agent(model, tools, *middleware), asks("go"), **options)


PIECES = "its answer is put together from pieces"


def streaming(*turns: Any, **options: Any) -> StreamingModel:
    return StreamingModel(turns=turns, **options)


SEARCHED = Path(__file__).parent.with_name("searched")
TWO = [call("look_up", "a", word="x"), call("pay", "b", amount=2)]
LOOK = TWO[:1]
SEARCH = [
    call("glob_search", "a", pattern="one.txt"),
    call("grep_search", "b", pattern="needle", output_mode="content"),
    call("grep_search", "c", pattern="needle", include="*.md", output_mode="count"),
    call("glob_search", "d", pattern="../*"),
]
reviewed = HumanInTheLoopMiddleware[Any, Any, Any](interrupt_on={"pay": True})
EDITED = {"decisions": [{"type": "edit", "edited_action": {"name": "pay", "args": {"amount": 1}}}]}

CASES = [
    case("streaming", streaming("one two three"), on_purpose=PIECES),
    case("streaming_without_ids", streaming("one two three", ids=False), on_purpose=PIECES),
    case("streaming_calls", streaming(TWO, heard), on_purpose=PIECES),
    case("streaming_calls_without_ids", streaming(TWO, heard, ids=False), on_purpose=PIECES),
    case("streaming_calls_reviewed", streaming(TWO, heard), reviewed, answers=[EDITED], on_purpose=PIECES),
    case("streaming_from_tools", says([call("tell", "a", word="x"), call("tell", "b", word="y")], heard), tools=[tell]),
    Case("streamed_in_a_node", "agents: models", streamed_in_a_node(), asks("go")),
    case("tools_selected", says(LOOK, heard), selected("look_up")),
    case("tools_selected_at_most_one", says(LOOK, heard), selected("look_up", "pay", max_tools=1)),
    case("tools_selected_and_always_one", says(TWO, heard), selected("look_up", always_include=["pay"])),
    case("tools_selected_in_vain", says(TWO, heard), selected(max_retries=2, on_parsing_failure="all")),
    case("tools_selected_wrongly", says(TWO, heard), selected("nothing"), raises="Model selected invalid tools"),
    case("tools_emulated", says(TWO, heard), LLMToolEmulator(model=says("as if", label="emulator"))),
    case("one_tool_emulated", says(TWO, heard), LLMToolEmulator(tools=["pay"], model=says("as if", label="emulator"))),
    case(
        "tools_of_the_provider",
        says(TWO, heard, provider="anthropic"),
        ProviderToolSearchMiddleware(searchable_tools=["pay"]),
    ),
    case(
        "tools_of_no_provider",
        says(TWO, heard),
        ProviderToolSearchMiddleware(searchable_tools=["pay"]),
        raises="requires a provider",
    ),
    case("model_routed", says(heard), routed()),
    case("tool_too_risky", says(TWO, heard), AutoModeMiddleware(tools=["pay"], classifier=Decides(risk=0.9))),
    case(
        "tool_not_too_risky",
        says(TWO, heard),
        AutoModeMiddleware(tools=["pay", "look_up"], classifier=Decides(risk=0.1)),
    ),
    case(
        "files_searched",
        says(SEARCH, heard),
        FilesystemFileSearchMiddleware(root_path=str(SEARCHED), use_ripgrep=False),
        tools=[],
    ),
]

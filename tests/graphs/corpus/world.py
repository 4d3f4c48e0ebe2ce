"""What a node sees of the graph around it: channels, step, path, triggers, configuration, managed values."""

from typing import Annotated, Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langgraph.config import get_config, get_stream_writer
from langgraph.graph import END, START, MessagesState
from langgraph.graph.message import push_message
from langgraph.graph.state import StateGraph
from langgraph.graph.ui import AnyUIMessage, ui_message_reducer
from langgraph.managed import IsLastStep, RemainingSteps
from langgraph.runtime import Runtime
from langgraph.types import Command, Send, interrupt

from tests.graphs.cases import Case
from tests.graphs.parts import Graph, Log, Node, row, says, side_by_side

HELLO = {"messages": [{"role": "user", "content": "hello", "id": "h"}]}
METADATA = ("langgraph_step", "langgraph_node", "langgraph_triggers", "langgraph_path")


class Chat(MessagesState, Log):
    ui: Annotated[list[AnyUIMessage], ui_message_reducer]


class Managed(Log):
    left: RemainingSteps
    is_last: IsLastStep


def placed(name: str) -> Node:
    """Logs where in the graph the node runs."""

    def run(state: Any, config: RunnableConfig) -> Log:
        metadata = config["metadata"]
        triggers = sorted(metadata["langgraph_triggers"])
        path = [str(place) for place in metadata["langgraph_path"]]
        return {"log": [[name, metadata["langgraph_step"], metadata["langgraph_node"], triggers, path]]}

    return run


def places() -> Graph:
    graph = side_by_side(Log, [("a", placed("a")), ("b", placed("b"))])
    graph.add_node("join", placed("join"))
    graph.add_edge(["a", "b"], "join")
    graph.add_node("sent", placed("sent"))
    graph.add_conditional_edges("join", lambda state: [Send("sent", {}), Send("sent", {})], ["sent"])
    graph.add_node("last", placed("last"))
    graph.add_edge("sent", "last")
    return graph


def places_in_a_loop() -> Graph:
    def once_more(state: Log) -> str:
        return "again" if len(state["log"]) < 4 else END

    graph: Graph = StateGraph(Log)
    graph.add_node("again", placed("again"))
    graph.add_edge(START, "again")
    graph.add_conditional_edges("again", once_more, ["again", END])
    return graph


def places_after_commands() -> Graph:
    def leave(state: Log) -> Command[Any]:
        return Command(update={"log": ["leaving"]}, goto=["x", Send("y", {"log": []})])

    graph: Graph = StateGraph(Log)
    graph.add_node("leave", leave, destinations=("x", "y"))
    for name in "xy":
        graph.add_node(name, placed(name))
    graph.add_edge(START, "leave")
    return graph


def places_in_a_subgraph() -> Graph:
    inner = row(Log, ("one", placed("one")), ("two", placed("two"))).compile()
    return row(Log, ("before", says("before")), ("inner", inner), ("after", placed("after")))


def places_after_a_question() -> Graph:
    def ask(state: Log, config: RunnableConfig) -> Log:
        answer = interrupt("go on?")
        return {"log": [[answer, config["metadata"]["langgraph_step"]]]}

    return row(Log, ("before", placed("before")), ask, ("after", placed("after")))


def reading(name: str | list[str]) -> Any:
    """What the channel holds, as tools read it."""
    read = get_config()["configurable"]["__pregel_read"]
    return read(name, False)


def reads_channels() -> Graph:
    def look(state: Log) -> Log:
        return {"log": [f"channel: {len(reading('messages'))} {reading('messages')[-1].content}"]}

    return row(Chat, ("first", say("one")), ("second", say("two")), look)


def reads_many_channels() -> Graph:
    def look(state: Log) -> Log:
        held = reading(["messages", "log"])
        return {"log": [sorted(held), len(held["messages"]), list(held["log"])]}

    return row(Chat, ("first", say("one")), ("log", says("log")), look)


def reads_its_own_writes() -> Graph:
    """A fresh read applies what the task wrote so far."""

    def look(state: Any, config: RunnableConfig) -> Log:
        push_message(AIMessage("pushed", id="p"))
        fresh = config["configurable"]["__pregel_read"]("messages", True)
        return {"log": [[m.content for m in fresh]]}

    return row(Chat, ("first", say("one")), look)


def sent_but_reads_all() -> Graph:
    """A Send gives its node a part of the state; the channels are there all the same."""

    def look(state: Any) -> Log:
        return {"log": [[state["only"], [m.content for m in reading("messages")]]]}

    graph: Graph = StateGraph(Chat)
    graph.add_node("look", look)
    graph.add_conditional_edges(START, lambda state: [Send("look", {"only": n}) for n in range(3)], ["look"])
    return graph


def say(text: str) -> Node:
    def run(state: Any) -> dict[str, Any]:
        return {"messages": AIMessage(text)}

    return run


def counting_down() -> Graph:
    def watch(state: Any) -> Log:
        return {"log": [[state["left"], state["is_last"]]]}

    def enough(state: Any) -> str:
        return END if state["left"] <= 2 else "watch"

    graph: Graph = StateGraph(Managed)
    graph.add_node("watch", watch)
    graph.add_edge(START, "watch")
    graph.add_conditional_edges("watch", enough, ["watch", END])
    return graph


def counting_down_in_sends() -> Graph:
    def watch(state: Any, config: RunnableConfig) -> Log:
        return {"log": [[sorted(state), config["recursion_limit"]]]}

    graph: Graph = StateGraph(Managed)
    graph.add_node("watch", watch)
    graph.add_conditional_edges(START, lambda state: [Send("watch", {"n": n}) for n in range(2)], ["watch"])
    return graph


def names_in_the_configuration() -> Graph:
    """Nothing of the machinery's but LangGraph's own."""

    def look(state: Log, config: RunnableConfig) -> Log:
        names = [name for name in config["configurable"] if not name.startswith(("__pregel_", "checkpoint"))]
        ours = [name for name in config["configurable"] if "stellwerk" in name]
        return {"log": [sorted(names), ours, config["configurable"]["thread_id"] == reading_thread()]}

    return row(Log, ("before", says("before")), look)


def reading_thread() -> Any:
    return get_config()["configurable"]["thread_id"]


def writes_the_stream() -> Graph:
    def write(state: Log) -> Log:
        writer = get_stream_writer()
        writer({"progress": 1})
        writer("half-way")
        return {"log": ["written"]}

    return row(Log, write)


def its_runtime() -> Graph:
    def look(state: Log, runtime: Runtime[Any]) -> Log:
        runtime.stream_writer("seen")
        info = runtime.execution_info
        assert info is not None
        return {"log": [[runtime.previous, runtime.context, runtime.store is None, info.node_attempt]]}

    return row(Log, look)


def its_namespace() -> Graph:
    def look(state: Log, config: RunnableConfig) -> Log:
        namespace = config["configurable"]["checkpoint_ns"]
        return {"log": [[part.partition(":")[0] for part in namespace.split("|")]]}

    inner = row(Log, ("deep", look)).compile()
    return row(Log, ("shallow", look), ("inner", inner))


def each(name: str, graph: Graph, given: Any = None, **more: Any) -> Case:
    return Case(f"world-{name}", "world", graph, {"log": []} if given is None else given, **more)


CASES = [
    each("places", places()),
    each("places-in-a-loop", places_in_a_loop()),
    each("places-after-commands", places_after_commands()),
    each("places-in-a-subgraph", places_in_a_subgraph()),
    each("places-after-a-question", places_after_a_question(), answers=["yes"]),
    each("reads-channels", reads_channels(), HELLO),
    each("reads-many-channels", reads_many_channels(), HELLO),
    each("reads-its-own-writes", reads_its_own_writes(), HELLO),
    each("sent-but-reads-all", sent_but_reads_all(), HELLO),
    each("counting-down", counting_down(), config={"recursion_limit": 7}),
    each("counting-down-in-sends", counting_down_in_sends(), config={"recursion_limit": 9}),
    each("configurable", names_in_the_configuration()),
    each("stream-writer", writes_the_stream()),
    each("runtime", its_runtime()),
    each("namespaces", its_namespace()),
]

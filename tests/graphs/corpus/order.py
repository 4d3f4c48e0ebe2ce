"""What has no order: sets, the fields that were set of a model, and dicts made of them, in every process otherwise."""

from typing import Annotated, Any

from langchain_core.messages import AIMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Send, interrupt
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from tests.graphs.cases import Case
from tests.graphs.effects import happened
from tests.graphs.parts import Graph, Log, row, side_by_side

WORDS = ("amber", "blue", "cyan", "denim", "ecru", "fawn", "gold", "hazel", "iris", "jade")


def union(left: set[Any], right: set[Any]) -> set[Any]:
    return (left or set()) | set(right)


class Seen(Log):
    seen: Annotated[set[Any], union]
    latest: set[str]


class Profile(BaseModel):
    amber: int = 0
    blue: int = 0
    cyan: int = 0
    denim: int = 0
    tags: set[str] = Field(default_factory=set)
    inner: "Profile | None" = None


class Profiles(TypedDict, total=False):
    profile: Profile
    all: Annotated[dict[str, Profile], lambda left, right: {**(left or {}), **right}]


class Root(BaseModel):
    words: set[str] = Field(default_factory=set)
    count: int = 0
    note: str | None = None
    frozen: frozenset[str] = frozenset()


def sees(*words: str) -> Any:
    def run(state: Any) -> dict[str, Any]:
        happened(" ".join(words))
        return {"seen": set(words), "latest": {*words}} if len(words) > 3 else {"seen": set(words)}

    return run


def sets_in_parallel() -> Graph:
    def tell(state: Any) -> dict[str, Any]:
        return {"log": [sorted(state["seen"])], "latest": set(state["seen"])}

    nodes = [(f"n{i}", sees(*WORDS[i : i + 3])) for i in range(6)]
    return side_by_side(Seen, nodes, tell)


def sets_of_tuples() -> Graph:
    def write(state: Any) -> dict[str, Any]:
        return {"seen": {(word, place) for place, word in enumerate(WORDS)}, "latest": set(WORDS)}

    def more(state: Any) -> dict[str, Any]:
        return {"seen": {frozenset(WORDS[:4]), "x", None, 3, (1, frozenset(WORDS[5:]))}}

    return row(Seen, write, more)


def sets_in_sends() -> Graph:
    def work(state: Any) -> dict[str, Any]:
        return {"log": [sorted(state["words"])], "seen": state["words"]}

    graph: Graph = StateGraph(Seen)
    graph.add_node("work", work)
    graph.add_conditional_edges(
        START, lambda s: [Send("work", {"words": set(WORDS[n : n + 5])}) for n in range(4)], ["work"]
    )
    return graph


def nested_sets() -> Graph:
    def write(state: Any) -> dict[str, Any]:
        return {"log": [{"deep": [set(WORDS), (frozenset(WORDS),)]}, {word: {word, word * 2} for word in WORDS}]}

    return row(Log, write, ("again", write))


def sets_before_a_question() -> Graph:
    def ask(state: Any) -> dict[str, Any]:
        return {"log": [interrupt("which?"), sorted(state["latest"])], "seen": {"asked"}}

    return row(Seen, ("see", sees(*WORDS)), ask)


def models_with_some_fields_set() -> Graph:
    def write(state: Any) -> dict[str, Any]:
        profile = Profile(denim=1, blue=2, amber=3, tags=set(WORDS), inner=Profile(cyan=1, amber=2))
        return {"profile": profile, "all": {"one": Profile(**dict.fromkeys(("denim", "cyan", "blue"), 1))}}

    def change(state: Any) -> dict[str, Any]:
        changed = state["profile"].model_copy(update={"cyan": 9})
        dumped = Profile.model_validate(state["profile"].model_dump(exclude_unset=True))
        return {"profile": changed, "all": {"two": dumped, "three": changed}}

    return row(Profiles, write, change)


def pydantic_root() -> Graph:
    def one(state: Root) -> dict[str, Any]:
        return {"words": state.words | set(WORDS[:5]), "note": f"set {sorted(state.model_fields_set)}"}

    def two(state: Root) -> dict[str, Any]:
        return {"frozen": frozenset(WORDS), "note": f"{state.note} then {sorted(state.model_fields_set)}"}

    return row(Root, one, two)


def messages_with_sets() -> Graph:
    def write(state: Any) -> dict[str, Any]:
        return {
            "messages": [AIMessage("m", additional_kwargs={"words": set(WORDS)}, response_metadata={"w": {*WORDS}})]
        }

    return row(MessagesState, write, ("again", write))


def keys_in_any_order() -> Graph:
    def write(state: Any) -> dict[str, Any]:
        return {"log": [sorted(dict.fromkeys(set(WORDS), 1)), {frozenset({"b", "a"}): 1, frozenset({"c"}): 2}]}

    return row(Log, write)


def each(name: str, graph: Graph, given: Any = None, **more: Any) -> Case:
    return Case(f"order-{name}", "order", graph, {"log": []} if given is None else given, **more)


CASES = [
    each("sets-in-parallel", sets_in_parallel()),
    each("sets-of-tuples", sets_of_tuples()),
    each("sets-in-sends", sets_in_sends()),
    each("nested-sets", nested_sets()),
    each("sets-before-a-question", sets_before_a_question(), answers=["jade"]),
    each("fields-set", models_with_some_fields_set(), {}),
    each("pydantic-root", pydantic_root(), {"count": 2}),
    each("messages-with-sets", messages_with_sets(), {"messages": "hi"}),
    each("keys-in-any-order", keys_in_any_order()),
]

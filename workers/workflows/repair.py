"""`repair`: review and repair a Python project.

START ──▶ supervisor ──▶ research ──┐     at first, both at once
           ▲   │    └──▶ architect ─┤
           │   ├───────▶ codesmith ─┤
           │   ├───────▶ reviewfix ─┤
           │   └──▶ END             │
           └────────────────────────┘
"""

from datetime import timedelta

from langgraph.graph import START, StateGraph

from workers.agents.architect import architect
from workers.agents.codesmith import codesmith
from workers.agents.research import research
from workers.agents.reviewfix import reviewfix
from workers.agents.state import RepairInput, RepairResult, RepairState
from workers.agents.supervisor import supervisor
from workers.workflow import Node, Workflow

graph = StateGraph(RepairState, input_schema=RepairInput, output_schema=RepairResult)

graph.add_node("supervisor", supervisor)
graph.add_node("research", research)
graph.add_node("architect", architect)
graph.add_node("codesmith", codesmith)
graph.add_node("reviewfix", reviewfix)

graph.add_edge(START, "supervisor")
graph.add_edge("research", "supervisor")
graph.add_edge("architect", "supervisor")
graph.add_edge("codesmith", "supervisor")
graph.add_edge("reviewfix", "supervisor")

WORKFLOWS = {
    "repair": Workflow(
        graph,
        nodes={
            "supervisor": Node(time_limit=timedelta(minutes=5)),
            "research": Node(time_limit=timedelta(minutes=30)),
            "architect": Node(time_limit=timedelta(hours=1)),
            "codesmith": Node(time_limit=timedelta(minutes=30)),
            "reviewfix": Node(time_limit=timedelta(hours=2)),
        },
    )
}

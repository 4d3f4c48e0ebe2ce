"""The workflow `patient` after somebody renamed its second node."""

from tests.graphs.steps import State, graph_of, quick
from workers.workflow import Workflow


async def patient_no_more(state: State) -> State:
    return {"done": ["renamed"]}


WORKFLOWS = {"patient": Workflow(graph=graph_of(quick, patient_no_more))}

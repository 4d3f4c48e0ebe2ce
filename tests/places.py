"""A project with one of everything that a request can name or an answer can show, all with one distinctive word."""

from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Self
from uuid import uuid4

import httpx
import orjson
from sqlalchemy import text

from app.database import transaction
from app.events.artifacts import put_artifact
from app.principals.model import EVERY_SCOPE
from app.progress import ModelCall, SessionId
from app.sessions import attempts
from app.sessions.attempts import Claim
from app.sessions.model import NewStep, StepToken
from app.sessions.model_calls import record_call
from tests.answering import question_of
from tests.keyed import Keyed, make_key, showing
from tests.populating import advance, report
from tests.serving import Served


@dataclass(frozen=True, slots=True)
class Place:
    """Ids of one project, and the word that stands in everything else of it."""

    word: str
    created: str
    running: str
    waiting: str
    answered: str
    succeeded: str
    failed: str
    cancelled: str
    operators: str
    digest: str
    key_id: str
    rotated_key_id: str
    question: str
    """The id of what `waiting` asks, which says nothing by itself."""
    step_token: str
    key: Keyed | None = None
    """It has every scope."""

    @property
    def project(self) -> str:
        return f"{self.word}-project"

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(getattr(self, field.name) for field in fields(self)[1:-3])

    def nowhere(self) -> Self:
        """Ids and words as like these as can be, which were never given to anything."""
        word = self.word[::-1]
        other = {field.name: _like(getattr(self, field.name)) for field in fields(self)[1:-3]}
        token = StepToken.parse(self.step_token)
        return replace(self, word=word, step_token=str(replace(token, lease=uuid4())), key=None, **other)


def _like(hexadecimal: str) -> str:
    """It sorts beside the given one, as an id of the same millisecond would."""
    return hexadecimal[:-4] + f"{int(hexadecimal[-4:], 16) ^ 0xFFFF:04x}"


async def inhabited(served: Served, word: str) -> Place:
    """Everything in it is made in the ways in which workers and clients make it."""
    project = f"{word}-project"
    await _serve_workflow(served, word)
    key = await make_key(served, *sorted(EVERY_SCOPE), project=project, name=f"{word}-key", reason=f"{word}-reason")
    async with showing(served, key) as client:
        client.headers["X-Request-Id"] = f"{word}-request"
        made = _Making(served, client, word)
        waiting, answered = await made.waiting(), await made.waiting()
        answer = {
            "question": await question_of(served, answered),
            "answer": f"{word}-answer",
            "comment": f"{word}-comment",
            "reason": f"{word}-why",
        }
        assert (await client.post(f"/sessions/{answered}/approvals/1", json=answer)).status_code == 200
        cancelled = (await made.begun()).session.session_id
        cancel = await client.post(f"/sessions/{cancelled}/cancel", json={"reason": f"{word}-reason"})
        assert cancel.status_code == 200
        refused = await client.post(f"/sessions/{cancelled}/retry", json={"reason": f"{word}-refused"})
        assert refused.status_code == 409
        assert (await client.get(f"/sessions/{uuid4()}")).status_code == 404
        await served.gateway.denials.flush()
        succeeded, digest = await made.succeeded()
        running = await made.begun()
        spare = await make_key(served, "admin", project=project, name=f"{word}-spare")
        to_rotate = await make_key(served, "read", project=project, name=f"{word}-rotated")
        operators = (await client.get("/operators/events", params={"limit": 1})).json()["events"][0]["stream_id"]
        return Place(
            word=word,
            created=str(await made.created()),
            running=str(running.session.session_id),
            waiting=str(waiting),
            question=await question_of(served, waiting),
            answered=str(answered),
            succeeded=str(succeeded),
            failed=str(await made.failed()),
            cancelled=str(cancelled),
            operators=operators,
            digest=digest,
            key_id=spare.key_id,
            rotated_key_id=to_rotate.key_id,
            step_token=str(running.token),
            key=key,
        )


async def _serve_workflow(served: Served, word: str) -> None:
    async with transaction(served.gateway.engine) as db:
        await db.execute(
            text(
                "WITH alive AS (INSERT INTO workers (worker) VALUES (:worker))"
                " INSERT INTO workflows (name, version, langgraph_version, input_fields)"
                " VALUES (:flow, '1', '1.2', '{task,path}')"
            ),
            {"worker": f"{word}-worker", "flow": f"{word}-flow"},
        )


@dataclass(frozen=True, slots=True)
class _Making:
    served: Served
    client: httpx.AsyncClient
    word: str

    def of(self, what: str) -> str:
        return f"{self.word}-{what}"

    async def created(self) -> SessionId:
        body = {"task": self.of("task"), "workflow": self.of("flow"), "input": {self.of("field"): self.of("input")}}
        body |= {"context": {"x": self.of("context")}, "config": {"tags": [self.of("tag")]}}
        headers = {"Idempotency-Key": self.of(f"once-{uuid4()}")}
        answer = await self.client.post("/sessions", json=body, headers=headers)
        assert answer.status_code == 201, answer.text
        return SessionId(StepToken.parse(f"step.{answer.json()['session_id']}.1.1.{uuid4()}.x").session_id)

    async def begun(self) -> Claim:
        backends, session_id = self.served.gateway.backends, await self.created()
        agent = self.of("agent")
        step = NewStep(self.of("path"), agent, self.of("queue"), None, 1, timedelta(hours=1))
        await advance(backends, session_id, steps=[step])
        claim = await attempts.claim_step(
            *(backends, session_id, 1, 1),
            agent=agent,
            lease=uuid4(),
            worker=self.of("worker"),
            served=frozenset({(self.of("flow"), "1")}),
            alone=False,
        )
        assert claim is not None
        await report(backends, claim, 0.5, self.of("message"), **{self.of("detail"): self.of("value")})
        await record_call(backends, claim, self.call(), key="call-1")
        return claim

    def call(self) -> ModelCall:
        said: dict[str, Any] = {"request": self.of("prompt"), "response": self.of("reply"), "usage": {}, "trace": {}}
        return ModelCall(
            self.of("agent"), self.of("provider"), self.of("model"), cost=1.0, duration_ms=1.0, error=None, **said
        )

    async def waiting(self) -> SessionId:
        claim = await self.begun()
        await attempts.wait_step(
            self.served.gateway.backends,
            claim,
            question={"ask": self.of("question")},
            interrupt_id="interrupt-2",
            node_snapshot=b"state",
            answer_schema={"description": self.of("wanted")},
        )
        return claim.session.session_id

    async def succeeded(self) -> tuple[SessionId, str]:
        backends, claim = self.served.gateway.backends, await self.begun()
        session_id = claim.session.session_id
        update = {self.of("plan"): [self.of("step"), "x" * 400_000]}
        await attempts.complete_step(backends, claim, update, commit=self.of("commit"))
        patch = f"--- a/{self.of('file')}\n+++ b/{self.of('file')}\n"
        result, state = {"summary": self.of("summary")}, orjson.dumps({"x": self.of("state")})
        await advance(backends, session_id, finished=True, patch=patch.encode(), result=result, state=state)
        async with transaction(backends.engine) as db:
            content = f'{{"held": "{self.of("artifact")}"}}'.encode()
            return session_id, await put_artifact(db, session_id, content, media_type="application/json")

    async def failed(self) -> SessionId:
        claim = await self.begun()
        await attempts.fail_step(self.served.gateway.backends, claim, self.of("error"), retryable=False)
        return claim.session.session_id

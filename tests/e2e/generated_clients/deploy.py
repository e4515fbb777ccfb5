"""Reports a deploy with the client that openapi-python-client generates, and reads it back.

Usage: deploy.py URL TOKEN, where URL ends with /v1 or /v1/tenants/NAME.
"""

import json
import sys
from datetime import datetime, timezone

from ledger_client import AuthenticatedClient
from ledger_client.api.environments import get_state
from ledger_client.api.events import list_events, post_events
from ledger_client.models import (
    DeployStartedEvent,
    DeploySucceededEvent,
    EventDeploy,
    EventEndedDeploy,
    EventRecordedRelease,
    EventResult,
    EventsBody,
    ListEventsOrder,
    Problem,
    StateBody,
)

ledger = AuthenticatedClient(base_url=sys.argv[1], token=sys.argv[2])
source = "https://ci.example/search-api"
lane = {"environment": "production", "service": "search-api", "deployment": "run-4711"}
release = EventRecordedRelease(version="v948")

events = [
    DeployStartedEvent(
        specversion="1.0",
        type_="io.releaseledger.deploy.started.v1",
        source=source,
        id="run-4711-started",
        time=datetime(2026, 8, 1, 12, 0, tzinfo=timezone.utc),
        data=EventDeploy(release=release, **lane),
    ),
    DeploySucceededEvent(
        specversion="1.0",
        type_="io.releaseledger.deploy.succeeded.v1",
        source=source,
        id="run-4711",
        time=datetime(2026, 8, 1, 12, 5, tzinfo=timezone.utc),
        data=EventEndedDeploy(release=release, duration_ms=300_000, **lane),
    ),
]
# An extension attribute of CloudEvents.
for event in events:
    event["correlationid"] = "run-4711"

recorded = []
for event in events:
    result = post_events.sync(client=ledger, body=event)
    assert isinstance(result, EventResult), result
    assert isinstance(result.position, int), result
    recorded.append(result.position)

# The generator has no function for a batch: send it with the client's connection.
response = ledger.get_httpx_client().post(
    "/events",
    content=json.dumps([event.to_dict() for event in events]),
    headers={"Content-Type": "application/cloudevents-batch+json"},
)
resent = [EventResult.from_dict(result) for result in response.json()]

state = get_state.sync(client=ledger, environment="production", wait_for=recorded[-1])
assert isinstance(state, StateBody), state
assert isinstance(state.lanes[0].since.occurred_at, datetime), state

history = list_events.sync(client=ledger, environment="production", order=ListEventsOrder.ASC)
assert isinstance(history, EventsBody), history

problem = get_state.sync(client=ledger, environment="nowhere")
assert isinstance(problem, Problem), problem

print(
    json.dumps(
        {
            "recorded": recorded,
            "resent": [result.status.value for result in resent],
            "live": state.lanes[0].release.version,
            "since": state.lanes[0].since.position,
            "history": [entry.event["type"] for entry in history.events],
            "correlation": history.events[0].event["correlationid"],
            "problem": problem.type_,
            "status": problem.status,
        }
    )
)

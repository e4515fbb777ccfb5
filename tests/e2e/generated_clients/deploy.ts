// Reports a deploy with openapi-fetch and the types that openapi-typescript generates, and reads it back.
//
// Usage: deploy.js URL TOKEN, where URL ends with /v1 or /v1/tenants/NAME.

import createClient from "openapi-fetch";

import type { components, paths } from "./ledger.js";

type Schemas = components["schemas"];

declare const process: { argv: string[] };
const [baseUrl, token] = process.argv.slice(2) as [string, string];
const ledger = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });

const envelope = {
  specversion: "1.0",
  source: "https://ci.example/search-api",
  // An extension attribute of CloudEvents.
  correlationid: "run-4711",
} as const;
const deploy: Schemas["EventDeploy"] = {
  environment: "production",
  service: "search-api",
  deployment: "run-4711",
  release: { version: "v948" },
};
const started: Schemas["DeployStartedEvent"] = {
  ...envelope,
  type: "io.releaseledger.deploy.started.v1",
  id: "run-4711-started",
  time: "2026-08-01T12:00:00Z",
  data: deploy,
};
const succeeded: Schemas["DeploySucceededEvent"] = {
  ...envelope,
  type: "io.releaseledger.deploy.succeeded.v1",
  id: "run-4711",
  time: "2026-08-01T12:05:00Z",
  data: { ...deploy, duration_ms: 300_000 },
};

// The types reject what the ledger rejects.
// @ts-expect-error a release has a version
const nameless: Schemas["EventRecordedRelease"] = { commit: "6973793e" };
// @ts-expect-error the member is misspelt
const misspelt: Schemas["EventDeploy"] = { ...deploy, servise: "search-api" };
// @ts-expect-error the type of an event decides which members its data has
const mistyped: Schemas["DeploySucceededEvent"] = { ...succeeded, type: "io.releaseledger.deploy.failed.v1" };

/** Sends one event or a batch, and returns the result of each. */
async function record(
  body: Schemas["RecordableEvent"] | Schemas["RecordableEvent"][],
): Promise<Schemas["EventResult"][]> {
  const format = Array.isArray(body) ? "cloudevents-batch+json" : "cloudevents+json";
  const { data, error } = await ledger.POST("/events", {
    body,
    headers: { "Content-Type": `application/${format}` },
  });
  if (error) throw new Error(error.detail);
  return Array.isArray(data) ? data : [data];
}

const recorded = [...(await record(started)), ...(await record(succeeded))];
const resent = await record([started, succeeded]);
const last: number | null | undefined = recorded[1]?.position;

const state = await ledger.GET("/environments/{environment}/state", {
  params: { path: { environment: "production" }, query: { wait_for: last ?? 0 } },
});
if (state.error) throw new Error(state.error.detail);
const lane: Schemas["LaneBody"] | undefined = state.data.lanes[0];

const history = await ledger.GET("/events", {
  params: { query: { environment: "production", order: "asc" } },
});
if (history.error) throw new Error(history.error.detail);
const { events }: Schemas["EventsBody"] = history.data;

const nowhere = await ledger.GET("/environments/{environment}/state", {
  params: { path: { environment: "nowhere" } },
});
const problem: Schemas["Problem"] | undefined = nowhere.error;

console.log(
  JSON.stringify({
    recorded: recorded.map((result) => result.position),
    resent: resent.map((result) => result.status),
    live: lane?.release.version,
    since: lane?.since.position,
    history: events.map((entry) => entry.event["type"]),
    correlation: events[0]?.event["correlationid"],
    problem: problem?.type,
    status: problem?.status,
  }),
);

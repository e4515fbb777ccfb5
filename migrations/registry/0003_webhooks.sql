-- State of the deliveries to webhooks. A row is for a follower, whose position is in `followers`. The ledger has the
-- subscriptions themselves: what is here may be lost, and only delays or repeats deliveries then.
CREATE TABLE webhook_deliveries (
    tenant            text        NOT NULL,
    follower          text        NOT NULL,
    settings_position bigint      NOT NULL,  -- of the event that stated the address
    attempts          bigint      NOT NULL,  -- number of attempts
    failures          integer     NOT NULL,  -- number of failed attempts since the last success
    failing_since     timestamptz,           -- time of the first of them
    next_attempt_at   timestamptz,           -- after a failure
    PRIMARY KEY (tenant, follower)
);

-- The last attempts of each follower.
CREATE TABLE webhook_attempts (
    tenant       text        NOT NULL,
    follower     text        NOT NULL,
    number       bigint      NOT NULL,  -- 1, 2, 3 …
    position     bigint      NOT NULL,  -- of the entry
    attempted_at timestamptz NOT NULL,
    duration_ms  bigint      NOT NULL,
    status       integer,               -- of the answer, if there was one
    error        text,                  -- null after a success
    PRIMARY KEY (tenant, follower, number)
);

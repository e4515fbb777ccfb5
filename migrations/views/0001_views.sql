-- The read models of one tenant, in a schema of their own: nothing here but the ledger, folded.
-- This file is never edited once it is released. Another form of the views is another version of
-- the schema, filled from the stream.

-- How far the ledger is folded. Every batch moves this row in the transaction that writes its rows.
CREATE TABLE projection (
    only_row       boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    position       bigint      NOT NULL,
    stream_created timestamptz,          -- which stream the position is of; null while it is 0
    leaf_hash      bytea,                -- of the entry at the position; null while it is 0
    root           bytea       NOT NULL  -- of the Merkle tree over the entries up to the position
);

INSERT INTO projection (position, root)
VALUES (0, '\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');

-- The whole history: a second full copy of the ledger.
CREATE TABLE events (
    position    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL,
    identity    uuid        NOT NULL,  -- of source and id
    kind        text        NOT NULL,  -- deploy.succeeded
    environment text,
    service     text,
    target      text,
    repeats     bigint,                -- the position of the entry that this one says again
    anomaly     text,
    leaf_hash   bytea       NOT NULL,
    bytes       bytea       NOT NULL,  -- as they stand in the stream
    CONSTRAINT events_position PRIMARY KEY (position)
);

CREATE UNIQUE INDEX events_identity ON events (identity) WHERE repeats IS NULL;
CREATE INDEX events_environment ON events (environment, position);
CREATE INDEX events_service ON events (service, position);
CREATE INDEX events_kind ON events (kind, position);

-- Positions that the stream gave away and could not return.
CREATE TABLE gaps (
    position bigint PRIMARY KEY
);

CREATE TABLE environments (
    environment_id integer PRIMARY KEY,
    name           text    NOT NULL CONSTRAINT environments_name UNIQUE,
    first_position bigint  NOT NULL,  -- of the first event that named it
    changes        bigint  NOT NULL   -- of its composition, so far
);

-- The tracks of lanes, each with the change that it keeps now. A track is the lane's traffic
-- (slot is null) or one of its slots.
CREATE TABLE tracks (
    track_id       integer     PRIMARY KEY,
    environment_id integer     NOT NULL,
    service        text        NOT NULL,
    target         text        NOT NULL,
    slot           text,
    position       bigint      NOT NULL,
    occurred_at    timestamptz NOT NULL,
    event_id       text        NOT NULL,
    switched_to    text,       -- the slot that traffic reaches from here on
    version        text,       -- with the next four: the release; null with a null switched_to: removed
    artifact       text,
    config         text,
    infrastructure text,
    commit         text
) WITH (fillfactor = 60);

CREATE INDEX tracks_environment ON tracks (environment_id, service, target);

-- Every change of every track.
CREATE TABLE lane_changes (
    track_id       integer     NOT NULL,
    environment_id integer     NOT NULL,
    position       bigint      NOT NULL,
    occurred_at    timestamptz NOT NULL,
    event_id       text        NOT NULL,
    switched_to    text,
    version        text,
    artifact       text,
    config         text,
    infrastructure text,
    commit         text,
    deployment     text,                  -- the emitter's name for the run that did it
    late           boolean     NOT NULL,  -- the track already had a change that occurred later
    change_number  bigint                 -- counts the changes of the environment's composition
);

CREATE INDEX lane_changes_position ON lane_changes (track_id, position) WHERE NOT late;
CREATE INDEX lane_changes_version ON lane_changes (track_id, version, position) WHERE version IS NOT NULL;
CREATE INDEX lane_changes_occurred ON lane_changes (track_id, occurred_at, position);
CREATE UNIQUE INDEX lane_changes_number ON lane_changes (environment_id, change_number)
    WHERE change_number IS NOT NULL;

-- The Merkle tree: C2SP tlog-tiles of 256 hashes; the last tile of a level may hold fewer.
CREATE TABLE tiles (
    level  smallint NOT NULL,
    index  bigint   NOT NULL,
    hashes bytea    NOT NULL,
    CONSTRAINT tiles_level_index PRIMARY KEY (level, index)
);

-- What checks said. A subject is the key of what was checked: a version in a lane, an artifact, a
-- deployment, a lane or an environment.
CREATE TABLE verdicts (
    position       bigint      NOT NULL,
    occurred_at    timestamptz NOT NULL,
    subject        uuid        NOT NULL,
    environment_id integer,               -- null: an artifact, wherever it runs
    named          boolean     NOT NULL,  -- whether it names the release; if not, what ran then was checked
    check_name     text        NOT NULL,
    passed         boolean     NOT NULL,
    artifact       text,                  -- with the next three: what else was told of the release
    config         text,
    infrastructure text,
    commit         text
);

CREATE INDEX verdicts_subject ON verdicts (subject, occurred_at, position);
CREATE INDEX verdicts_unnamed ON verdicts (environment_id, position) WHERE NOT named;

-- The environments' policies are in `events`; here is where.
CREATE TABLE policies (
    environment_id integer NOT NULL,
    position       bigint  NOT NULL,
    PRIMARY KEY (environment_id, position)
);

-- People's words on release points. The last one on a point counts.
CREATE TABLE marks (
    environment_id integer NOT NULL,
    position       bigint  NOT NULL,
    point          bigint  NOT NULL,  -- a position: what the environment ran then
    status         text,              -- null: what was said before is taken back
    name           text,
    actor_kind     text,
    actor_name     text,
    reason         text,
    PRIMARY KEY (environment_id, position)
);

CREATE TABLE freezes (
    environment_id integer     NOT NULL,
    freeze_id      text        NOT NULL,
    started        bigint      NOT NULL,  -- a position
    started_at     timestamptz NOT NULL,
    ends_at        timestamptz,           -- by itself
    lifted         bigint,                -- a position
    PRIMARY KEY (environment_id, freeze_id, started)
);

CREATE INDEX freezes_in_force ON freezes (environment_id, coalesce(ends_at, 'infinity')) WHERE lifted IS NULL;

-- People's answers to rollbacks and deploys.
CREATE TABLE approvals (
    position       bigint  NOT NULL PRIMARY KEY,
    subject        uuid    NOT NULL,  -- the key of the rollback, or of the version in a lane
    granted        boolean NOT NULL,
    actor_kind     text    NOT NULL,
    actor_name     text    NOT NULL,
    artifact       text,              -- with the next three: what else was told of the release
    config         text,
    infrastructure text,
    commit         text
);

CREATE INDEX approvals_subject ON approvals (subject, position);

-- Artifacts that must never be used again, or are gone.
CREATE TABLE revocations (
    position bigint  NOT NULL PRIMARY KEY,
    artifact text    NOT NULL,
    deleted  boolean NOT NULL
);

CREATE INDEX revocations_artifact ON revocations (artifact);

-- Deploys that cannot be undone by deploying the former release.
CREATE TABLE irreversible_deploys (
    environment_id integer NOT NULL,
    position       bigint  NOT NULL,
    service        text    NOT NULL,
    target         text    NOT NULL,
    version        text    NOT NULL,
    PRIMARY KEY (environment_id, position)
);

CREATE TABLE rollbacks (
    rollback_id    text        NOT NULL PRIMARY KEY,
    environment_id integer     NOT NULL,
    requested      bigint      NOT NULL,  -- the position of the request
    recorded_at    timestamptz NOT NULL,  -- of the request
    automatic      boolean     NOT NULL,
    phase          text        NOT NULL,
    started        bigint,                -- a position
    ended          bigint                 -- a position
);

CREATE INDEX rollbacks_environment ON rollbacks (environment_id, requested);
CREATE UNIQUE INDEX rollbacks_requested ON rollbacks (requested);
-- What is asked before each deploy must not grow with what is over.
CREATE INDEX rollbacks_active ON rollbacks (environment_id, requested) WHERE ended IS NULL;
CREATE INDEX rollbacks_automatic ON rollbacks (environment_id, recorded_at) WHERE automatic;
CREATE INDEX rollbacks_automatic_ended ON rollbacks (environment_id, ended)
    WHERE automatic AND phase IN ('succeeded', 'failed');

-- The lanes that a rollback brings away from a release.
CREATE TABLE rollback_lanes (
    environment_id integer NOT NULL,
    service        text    NOT NULL,
    target         text    NOT NULL,
    requested      bigint  NOT NULL,
    version        text    NOT NULL,
    artifact       text,
    config         text,
    infrastructure text,
    commit         text,
    PRIMARY KEY (environment_id, service, target, version, requested)
);

-- The reports that carry a rollback's id.
CREATE TABLE rollback_reports (
    rollback_id text   NOT NULL,
    position    bigint NOT NULL,
    PRIMARY KEY (rollback_id, position)
);

CREATE INDEX rollback_reports_position ON rollback_reports (position);

-- What was last seen in each lane.
CREATE TABLE observations (
    environment_id    integer     NOT NULL,
    service           text        NOT NULL,
    target            text        NOT NULL,
    slot              text,
    version           text,                  -- null: nothing ran there
    artifact          text,
    config            text,
    infrastructure    text,
    commit            text,
    since_position    bigint      NOT NULL,  -- the first observation that agrees with the last, without a break
    since_occurred_at timestamptz NOT NULL,
    since_event_id    text        NOT NULL,
    last_position     bigint      NOT NULL,
    last_occurred_at  timestamptz NOT NULL,
    last_event_id     text        NOT NULL,
    PRIMARY KEY (environment_id, service, target)
);

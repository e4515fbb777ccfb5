-- The read models of one tenant, in a schema of their own: nothing here but the ledger, folded.
-- This file is never edited once it is released. Another form of the projections is another version of
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
    anomalies   text,                  -- as judged when it was recorded; several are separated by commas
    first_of    text,                  -- what it named first: environment, service, target, separated by commas
    went_live   text,                  -- the version that its lane runs from here on, where the event changed that
    targets     text,                  -- the targets that it could have meant, where it named none of several
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
    changes        bigint  NOT NULL,  -- of its composition, so far
    with_parts     boolean NOT NULL,  -- a deploy there stated more of a release than its version
    last_change_at timestamptz        -- when the last change of its lanes occurred
);

-- Who emitted with a clock ahead of ours: how far, in microseconds, at most and last.
CREATE TABLE clock_skews (
    source        text    PRIMARY KEY,
    max_ahead     bigint  NOT NULL,
    last_ahead    bigint  NOT NULL,
    last_position bigint  NOT NULL,
    events        bigint  NOT NULL   -- that were ahead by more than a second
);

-- The tracks of lanes, each with its last change. A track is the lane's traffic (slot is null) or one of
-- its slots.
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
    commit         text,
    late_position  bigint      -- of the last report since then that is late
) WITH (fillfactor = 60);

CREATE INDEX tracks_environment ON tracks (environment_id, service, target);

-- Lanes that the last change of each track does not suffice for: their whole history is read.
CREATE TABLE irregular_lanes (
    environment_id integer NOT NULL,
    service        text    NOT NULL,
    target         text    NOT NULL,
    position       bigint  NOT NULL,  -- since which it is so
    PRIMARY KEY (environment_id, service, target)
);

-- Every change of every track.
CREATE TABLE lane_changes (
    track_id           integer     NOT NULL,
    environment_id     integer     NOT NULL,
    position           bigint      NOT NULL,
    occurred_at        timestamptz NOT NULL,
    event_id           text        NOT NULL,
    switched_to        text,
    version            text,
    artifact           text,
    config             text,
    infrastructure     text,
    commit             text,
    artifact_key       text,                  -- the artifact's identity
    package_key        text,                  -- its package URL, where the identity is the digest of its checksum
    deployment         text,                  -- the emitter's name for the run that did it
    late               boolean     NOT NULL,  -- the track already had a change that occurred later
    behind             boolean     NOT NULL,  -- the lane already had one
    corrected_position bigint                 -- from here on it has no effect
);

CREATE INDEX lane_changes_position ON lane_changes (track_id, position) WHERE NOT late;
CREATE INDEX lane_changes_version ON lane_changes (track_id, version, position) WHERE version IS NOT NULL;
CREATE INDEX lane_changes_artifact ON lane_changes (track_id, artifact_key) WHERE artifact_key IS NOT NULL;
CREATE INDEX lane_changes_package ON lane_changes (track_id, package_key) WHERE package_key IS NOT NULL;
CREATE INDEX lane_changes_removed ON lane_changes (track_id) WHERE version IS NULL AND switched_to IS NULL;
CREATE INDEX lane_changes_occurred ON lane_changes (track_id, occurred_at, position);

-- The changes of environments' compositions, in the order in which they were recorded: what a lane runs from
-- here on. A retirement changes several lanes at once.
CREATE TABLE live_changes (
    environment_id        integer     NOT NULL,
    number                bigint      NOT NULL,  -- counts the changes of the environment's composition
    service               text        NOT NULL,
    target                text        NOT NULL,
    position              bigint      NOT NULL,
    occurred_at           timestamptz NOT NULL,
    event_id              text        NOT NULL,
    version               text,                  -- with the next four: what the lane runs from here on; null: nothing
    artifact              text,
    config                text,
    infrastructure        text,
    commit                text,
    artifact_key          text,                  -- the artifact's identity
    before_slot           text,                  -- with those below: what it ran before
    before_position       bigint,
    before_at             timestamptz,
    before_event_id       text,
    before_version        text,
    before_artifact       text,
    before_config         text,
    before_infrastructure text,
    before_commit         text,
    composition           bytea       NOT NULL,  -- the identity of the environment's composition from here on
    CONSTRAINT live_changes_number PRIMARY KEY (environment_id, number, service, target)
);

CREATE INDEX live_changes_version ON live_changes (environment_id, service, target, version, position);
CREATE INDEX live_changes_occurred ON live_changes (environment_id, occurred_at, number);
CREATE INDEX live_changes_composition ON live_changes (environment_id, composition, number);

-- Changes of what runs that occurred before others that were recorded earlier: between the two times, what ran is not what was
-- recorded in that order.
CREATE TABLE reorderings (
    environment_id integer     NOT NULL,
    position       bigint      NOT NULL,
    since          timestamptz NOT NULL,
    until          timestamptz NOT NULL
);

CREATE INDEX reorderings_environment ON reorderings (environment_id, position);

-- Retirements of environments, and the declarations that end them.
CREATE TABLE retirements (
    environment_id integer     NOT NULL,
    position       bigint      NOT NULL,
    occurred_at    timestamptz NOT NULL,
    event_id       text        NOT NULL,
    retires        boolean     NOT NULL,
    PRIMARY KEY (environment_id, position)
);

-- Deploys that were started and have not ended; and failures whose start is not known yet. A deploy that cannot be undone stays here
-- until its own end is reported.
CREATE TABLE open_deploys (
    environment_id integer     NOT NULL,
    service        text        NOT NULL,
    target         text        NOT NULL,
    position       bigint      NOT NULL,
    occurred_at    timestamptz NOT NULL,
    is_end         boolean     NOT NULL,
    overtaken      boolean     NOT NULL,  -- another deploy to the lane succeeded later
    slot           text,
    deployment     text,
    reversible     boolean     NOT NULL,
    rollback_id    text,
    version        text        NOT NULL,
    artifact       text,
    config         text,
    infrastructure text,
    commit         text,
    PRIMARY KEY (environment_id, position)
);

-- Events that were replaced by later ones.
CREATE TABLE corrections (
    position           bigint  NOT NULL,  -- of the replaced event
    corrected_position bigint  NOT NULL,  -- of the event that replaced it, or would have
    named              boolean NOT NULL,  -- the latter names it; false: it is an earlier correction of what that names
    PRIMARY KEY (position, corrected_position)
);

-- Corrections of events that are not known yet: those have no effect when they come.
CREATE TABLE corrections_ahead (
    identity uuid   NOT NULL,
    position bigint NOT NULL,  -- of the correction
    PRIMARY KEY (identity)
);

-- Which artifacts were built as which versions.
CREATE TABLE builds (
    version     text        NOT NULL,
    position    bigint      NOT NULL,
    occurred_at timestamptz NOT NULL,
    artifact    text        NOT NULL,
    PRIMARY KEY (version, position)
);

-- The Merkle tree: C2SP tlog-tiles of 256 hashes; the last tile of a level may hold fewer.
CREATE TABLE tiles (
    level  smallint NOT NULL,
    index  bigint   NOT NULL,
    hashes bytea    NOT NULL,
    CONSTRAINT tiles_level_index PRIMARY KEY (level, index)
);

-- The ends of checks. A subject is the key of what was checked: a version in a lane, an artifact, a
-- deployment, a lane or an environment; where no target is named, of the service at all its targets.
CREATE TABLE verdicts (
    position           bigint      NOT NULL,
    occurred_at        timestamptz NOT NULL,
    subject            uuid        NOT NULL,
    environment_id     integer,               -- null: an artifact, wherever it runs
    scope              text        NOT NULL,  -- release, deployment, lane, environment or artifact
    check_name         text        NOT NULL,
    run                text,
    passed             boolean     NOT NULL,
    counts             boolean     NOT NULL,  -- false: the counts of cases contradict it
    artifact           text,                  -- with the next three: what else was said of the release
    config             text,
    infrastructure     text,
    commit             text,
    corrected_position bigint                 -- from here on it has no effect
);

CREATE INDEX verdicts_subject ON verdicts (subject, occurred_at, position);
CREATE INDEX verdicts_unnamed ON verdicts (environment_id, position) WHERE scope IN ('lane', 'deployment');
CREATE INDEX verdicts_environment ON verdicts (environment_id, position) WHERE scope = 'environment';

-- The starts of checks.
CREATE TABLE check_starts (
    position           bigint      NOT NULL PRIMARY KEY,
    occurred_at        timestamptz NOT NULL,
    subject            uuid        NOT NULL,
    environment_id     integer,
    check_name         text        NOT NULL,
    run                text,
    corrected_position bigint
);

CREATE INDEX check_starts_environment ON check_starts (environment_id, position);

CREATE INDEX check_starts_subject ON check_starts (subject, check_name, occurred_at, position) WHERE run IS NULL;
CREATE INDEX check_starts_run ON check_starts (run, check_name, occurred_at, position) WHERE run IS NOT NULL;

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
    occurred_at    timestamptz NOT NULL,
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
    lifted_at      timestamptz,
    PRIMARY KEY (environment_id, freeze_id, started)
);

CREATE INDEX freezes_in_force ON freezes (environment_id, coalesce(ends_at, 'infinity'), coalesce(lifted_at, 'infinity'));

-- People's answers to rollbacks and deploys.
CREATE TABLE approvals (
    position       bigint  NOT NULL PRIMARY KEY,
    subject        uuid    NOT NULL,  -- the key of the rollback, or of the version of a service
    occurred_at    timestamptz NOT NULL,
    expires_at     timestamptz,
    target         text,              -- the target that an answer to a deploy names
    version        text,
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
    position     bigint  NOT NULL PRIMARY KEY,
    artifact     text    NOT NULL,
    artifact_key text    NOT NULL,  -- its identity
    package_key  text,              -- its package URL, where the identity is the digest of its checksum
    occurred_at  timestamptz NOT NULL,
    deleted      boolean NOT NULL,
    reinstates   boolean NOT NULL   -- it may be used again
);

CREATE INDEX revocations_artifact ON revocations (artifact_key);
CREATE INDEX revocations_package ON revocations (package_key);

-- Deploys that cannot be undone by deploying the former release.
CREATE TABLE irreversible_deploys (
    environment_id integer NOT NULL,
    position       bigint  NOT NULL,
    service        text    NOT NULL,
    target         text    NOT NULL,
    version        text    NOT NULL,
    occurred_at    timestamptz NOT NULL,
    succeeded      boolean NOT NULL,
    corrected_position bigint,
    PRIMARY KEY (environment_id, position)
);

CREATE TABLE rollbacks (
    rollback_id    text        NOT NULL PRIMARY KEY,
    environment_id integer     NOT NULL,
    requested      bigint      NOT NULL,  -- the position of the request
    recorded_at    timestamptz NOT NULL,  -- of the request
    automatic      boolean     NOT NULL,
    by_person      boolean     NOT NULL,
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

-- The lanes of a rollback's plan, each with the release that it is brought away from, if any.
CREATE TABLE rollback_lanes (
    environment_id integer NOT NULL,
    service        text    NOT NULL,
    target         text    NOT NULL,
    requested      bigint  NOT NULL,
    version        text,
    artifact       text,
    config         text,
    infrastructure text,
    commit         text,
    to_version        text,           -- with the next four: what it brings the lane to; null: nothing
    to_artifact       text,
    to_config         text,
    to_infrastructure text,
    to_commit         text,
    PRIMARY KEY (environment_id, service, target, requested)
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

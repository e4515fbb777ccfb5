-- Read models of one tenant, in a schema of their own. They contain only data projected from the ledger.
-- Each schema version is a fresh schema, rebuilt from the stream: a change to this file requires a new schema version.

-- Checkpoint of the projector. Every batch advances this row in the transaction that writes its rows.
CREATE TABLE projection (
    only_row       boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    position       bigint      NOT NULL,
    stream_created timestamptz,          -- creation time of the stream; null while the position is 0
    leaf_hash      bytea,                -- of the entry at the position; null while it is 0
    root           bytea       NOT NULL  -- of the Merkle tree over the entries up to the position
);

INSERT INTO projection (position, root)
VALUES (0, '\xe3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');

-- Event history: a second full copy of the ledger.
CREATE TABLE events (
    position    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL,
    identity    uuid        NOT NULL,  -- key of source and id
    kind        text        NOT NULL,  -- such as deploy.succeeded
    environment text,
    service     text,
    target      text,
    repeats     bigint,                -- position of the earlier entry with the same identity
    anomalies   text,                  -- judged when the event is recorded; separated by commas
    first_of    text,                  -- names that this event uses first, separated by commas
    went_live   text,                  -- version that the lane runs from here on, if the event changed it
    targets     text,                  -- candidate targets, if it names none and the service has several
    correlation text,                  -- what it has in common with other events
    causation   text,                  -- id of the event that led to it
    actor       text,                  -- name of the actor, by the sender or only claimed
    commit      text,                  -- commit that the event names
    artifact    uuid,                  -- key of the identity of the artifact that the event names
    artifact_key text,                 -- of a build: the identity itself
    package_key text,                  -- package URL, if the identity is the digest of its checksum
    leaf_hash   bytea       NOT NULL,  -- covers position, recorded_at and bytes
    bytes       bytea       NOT NULL,  -- as stored in the stream
    CONSTRAINT events_position PRIMARY KEY (position)
);

CREATE UNIQUE INDEX events_identity ON events (identity) WHERE repeats IS NULL;
-- The hash of a name is a third of its text, and such short keys fill their pages: an entry costs half of what it costs
-- with the names. A query states the hash and the name.
CREATE INDEX events_environment ON events (hashtext(environment), position) WHERE environment IS NOT NULL;
CREATE INDEX events_service ON events (hashtext(service), position) WHERE service IS NOT NULL;
CREATE INDEX events_target ON events (hashtext(target), position) WHERE target IS NOT NULL;
CREATE INDEX events_kind ON events (hashtext(kind), position);
CREATE INDEX events_actor ON events (hashtext(actor), position) WHERE actor IS NOT NULL;
-- The controller asks for failed checks at each position.
CREATE INDEX events_failed_checks ON events (position) WHERE kind = 'validation.failed' AND repeats IS NULL;
CREATE INDEX events_correlation ON events (correlation, position) WHERE correlation IS NOT NULL;
CREATE INDEX events_causation ON events (causation, position) WHERE causation IS NOT NULL;
-- Commits and digests are found by a prefix, so their order must be that of their bytes.
CREATE INDEX events_commit ON events (lower(commit) text_pattern_ops) WHERE commit IS NOT NULL;
-- Few events have the same artifact: without the position, equal keys are stored once.
CREATE INDEX events_artifact ON events (artifact) WHERE artifact IS NOT NULL;
CREATE INDEX events_digest ON events (artifact_key text_pattern_ops) WHERE artifact_key IS NOT NULL;
CREATE INDEX events_package ON events (package_key) WHERE package_key IS NOT NULL;
CREATE INDEX events_occurred ON events (occurred_at);

-- Entries that are no events of a ledger, and have no effect. Something else wrote them to the stream.
CREATE TABLE foreign_entries (
    position    bigint      NOT NULL PRIMARY KEY,
    recorded_at timestamptz NOT NULL,
    reason      text        NOT NULL,  -- not_an_object, no_identity or no_type
    leaf_hash   bytea       NOT NULL,
    bytes       bytea       NOT NULL   -- as stored in the stream
);

-- Positions that the stream assigned but cannot return an entry for.
CREATE TABLE gaps (
    position bigint PRIMARY KEY
);

CREATE TABLE environments (
    environment_id integer PRIMARY KEY,
    name           text    NOT NULL CONSTRAINT environments_name UNIQUE,
    first_position bigint  NOT NULL,  -- of the first event that names it
    changes        bigint  NOT NULL,  -- number of changes of its composition
    with_parts     boolean NOT NULL,  -- true if some deploy stated more of a release than its version
    last_change_at timestamptz        -- latest time at which a change of its lanes occurred
);

-- Emitters with a clock ahead of the ledger's: largest and last skew, in microseconds.
CREATE TABLE clock_skews (
    source        text    PRIMARY KEY,
    max_ahead     bigint  NOT NULL,
    last_ahead    bigint  NOT NULL,
    last_position bigint  NOT NULL,
    events        bigint  NOT NULL   -- number of events that were ahead by more than a second
);

-- Tracks of lanes, each with its last change. A track is the traffic of the lane (slot is null) or one of its slots.
CREATE TABLE tracks (
    track_id       integer     PRIMARY KEY,
    environment_id integer     NOT NULL,
    service        text        NOT NULL,
    target         text        NOT NULL,
    slot           text,
    position       bigint      NOT NULL,
    occurred_at    timestamptz NOT NULL,
    event_id       text        NOT NULL,
    switched_to    text,       -- slot that traffic reaches from here on
    version        text,       -- this and the next four: the release; null while switched_to is null: removed
    artifact       text,
    config         text,
    infrastructure text,
    commit         text,
    late_position  bigint      -- of the last late report since this change
) WITH (fillfactor = 60);

CREATE INDEX tracks_environment ON tracks (environment_id, service, target);
CREATE INDEX tracks_service ON tracks (service);

-- Irregular lanes: the last change of each track does not determine what they run, so queries read their whole history.
CREATE TABLE irregular_lanes (
    environment_id integer NOT NULL,
    service        text    NOT NULL,
    target         text    NOT NULL,
    position       bigint  NOT NULL,  -- from which the lane is irregular
    PRIMARY KEY (environment_id, service, target)
);

-- All changes of all tracks.
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
    artifact_key       text,                  -- identity of the artifact
    package_key        text,                  -- package URL, if the identity is the digest of its checksum
    deployment         text,                  -- the emitter's name for the deployment run
    late               boolean     NOT NULL,  -- the track already had a change that occurred later
    behind             boolean     NOT NULL,  -- the lane already had a change that occurred later
    corrected_position bigint                 -- from here on it has no effect
);

CREATE INDEX lane_changes_position ON lane_changes (track_id, position) WHERE NOT late;
CREATE INDEX lane_changes_version ON lane_changes (track_id, version, occurred_at, position) WHERE version IS NOT NULL;
CREATE INDEX lane_changes_package ON lane_changes (package_key) WHERE package_key IS NOT NULL;
CREATE INDEX lane_changes_removed ON lane_changes (track_id, occurred_at, position)
    WHERE version IS NULL AND switched_to IS NULL;
CREATE INDEX lane_changes_occurred ON lane_changes (track_id, occurred_at, position);
-- Commits and digests are found by a prefix, so their order must be that of their bytes.
CREATE INDEX lane_changes_commit ON lane_changes (lower(commit) text_pattern_ops) WHERE commit IS NOT NULL;
CREATE INDEX lane_changes_digest ON lane_changes (artifact_key text_pattern_ops) WHERE artifact_key IS NOT NULL;

-- Composition changes of environments, in recorded order: the release that each changed lane runs from here on.
-- A retirement changes several lanes at once.
CREATE TABLE live_changes (
    environment_id        integer     NOT NULL,
    number                bigint      NOT NULL,  -- of the change of the environment's composition, counted from 1
    service               text        NOT NULL,
    target                text        NOT NULL,
    position              bigint      NOT NULL,
    occurred_at           timestamptz NOT NULL,
    event_id              text        NOT NULL,
    version               text,                  -- this and the next four: the release from here on; null: none
    artifact              text,
    config                text,
    infrastructure        text,
    commit                text,
    artifact_key          uuid,                  -- key of the identity of the artifact
    before_slot           text,                  -- this and the next three: the change by which the lane ran the
    before_position       bigint,                -- release of its row before; null: it ran nothing
    before_at             timestamptz,
    before_event_id       text,
    composition           bytea       NOT NULL,  -- identity of the environment's composition from here on
    CONSTRAINT live_changes_number PRIMARY KEY (environment_id, number, service, target)
);

CREATE INDEX live_changes_lane ON live_changes (environment_id, service, target, number);
CREATE INDEX live_changes_version ON live_changes (environment_id, service, target, version, position);
CREATE INDEX live_changes_occurred ON live_changes (environment_id, occurred_at, number);
CREATE INDEX live_changes_composition ON live_changes (environment_id, composition, number);

-- Spans in which what ran differs from what was recorded, because a late report or a correction changed the past.
-- `until` is exclusive.
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

-- Deploy starts without an end, and failures without a start. An irreversible deploy stays here until its own end is
-- reported.
CREATE TABLE open_deploys (
    environment_id integer     NOT NULL,
    service        text        NOT NULL,
    target         text        NOT NULL,
    position       bigint      NOT NULL,
    occurred_at    timestamptz NOT NULL,
    is_end         boolean     NOT NULL,
    overtaken      boolean     NOT NULL,  -- a later deploy to the lane succeeded
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

-- Events that later events replace.
CREATE TABLE corrections (
    position           bigint  NOT NULL,  -- of the replaced event
    corrected_position bigint  NOT NULL,  -- of the correction, even if that is corrected itself
    named              boolean NOT NULL,  -- false: the event is an earlier correction of the one that is named
    PRIMARY KEY (position, corrected_position)
);

CREATE INDEX corrections_recorded ON corrections (corrected_position);

-- Corrections recorded before the events that they name: such an event has no effect when it is recorded.
CREATE TABLE corrections_ahead (
    identity uuid   NOT NULL,
    position bigint NOT NULL,  -- of the correction
    PRIMARY KEY (identity)
);

-- Builds of artifacts, by version.
CREATE TABLE builds (
    version     text        NOT NULL,
    position    bigint      NOT NULL,
    occurred_at timestamptz NOT NULL,
    artifact    text        NOT NULL,
    PRIMARY KEY (version, position)
);

-- Merkle tree: C2SP tlog-tiles of 256 hashes, from level 1 up. The last tile of a level may hold fewer. Those of level 0
-- would hold the leaf hashes of the entries once more.
CREATE TABLE tiles (
    level  smallint NOT NULL,
    index  bigint   NOT NULL,
    hashes bytea    NOT NULL,
    CONSTRAINT tiles_level_index PRIMARY KEY (level, index)
);

-- Hashes cannot be compressed.
ALTER TABLE tiles ALTER COLUMN hashes SET STORAGE EXTERNAL;

-- Ends of checks. `subject` is the key of the checked subject: a version in a lane, an artifact, a deployment, a lane
-- or an environment. If the check names no target, the subject is the service at all its targets.
CREATE TABLE verdicts (
    position           bigint      NOT NULL,
    occurred_at        timestamptz NOT NULL,
    subject            uuid        NOT NULL,
    environment_id     integer,               -- null: an artifact, in every lane
    scope              text        NOT NULL,  -- release, deployment, lane, environment or artifact
    service            text,                  -- of the checked lane
    version            text,                  -- that the check names
    check_name         text        NOT NULL,
    run                text,
    passed             boolean     NOT NULL,
    counts             boolean     NOT NULL,  -- false: the case counts contradict a pass
    artifact           text,                  -- this and the next three: other parts that the check states
    config             text,
    infrastructure     text,
    commit             text,
    corrected_position bigint                 -- from here on it has no effect
);

CREATE INDEX verdicts_position ON verdicts (position);
CREATE INDEX verdicts_subject ON verdicts (subject, occurred_at, position);
CREATE INDEX verdicts_passed ON verdicts (environment_id, check_name, service, version) WHERE passed;
CREATE INDEX verdicts_unnamed ON verdicts (environment_id, position) WHERE scope IN ('lane', 'deployment');
CREATE INDEX verdicts_environment ON verdicts (environment_id, position) WHERE scope = 'environment';
CREATE INDEX verdicts_artifact ON verdicts (environment_id, position) WHERE artifact IS NOT NULL;

-- Starts of checks.
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

-- Positions of the environments' policies; the policies themselves are in `events`.
CREATE TABLE policies (
    environment_id integer NOT NULL,
    position       bigint  NOT NULL,
    PRIMARY KEY (environment_id, position)
);

-- Marks of release points by people. The last mark of a composition counts.
CREATE TABLE marks (
    environment_id integer NOT NULL,
    position       bigint  NOT NULL,
    occurred_at    timestamptz NOT NULL,
    point          bigint  NOT NULL,  -- position at which the environment ran the marked composition
    status         text,              -- null: revokes the earlier marks
    name           text,
    actor_kind     text,
    actor_name     text,
    reason         text,
    PRIMARY KEY (environment_id, position)
);

CREATE TABLE freezes (
    environment_id integer     NOT NULL,
    freeze_id      text        NOT NULL,
    started        bigint      NOT NULL,  -- position of the start
    started_at     timestamptz NOT NULL,
    ends_at        timestamptz,           -- ends automatically at this time
    lifted         bigint,                -- position of the lift
    lifted_at      timestamptz,
    PRIMARY KEY (environment_id, freeze_id, started)
);

CREATE INDEX freezes_started ON freezes (environment_id, started);
CREATE INDEX freezes_in_force ON freezes (environment_id, coalesce(ends_at, 'infinity'), coalesce(lifted_at, 'infinity'));

-- Answers of people to rollbacks and deploys.
CREATE TABLE approvals (
    position       bigint  NOT NULL PRIMARY KEY,
    subject        uuid    NOT NULL,  -- key of the rollback, or of the version of a service
    occurred_at    timestamptz NOT NULL,
    expires_at     timestamptz,
    target         text,              -- target that an answer to a deploy names
    version        text,
    granted        boolean NOT NULL,
    actor_kind     text    NOT NULL,
    actor_name     text    NOT NULL,
    artifact       text,              -- this and the next three: other parts that the answer states
    config         text,
    infrastructure text,
    commit         text
);

CREATE INDEX approvals_subject ON approvals (subject, position);

-- Revocations of artifacts that must not be used or are deleted, and their reinstatements.
CREATE TABLE revocations (
    position     bigint  NOT NULL PRIMARY KEY,
    artifact     text    NOT NULL,
    artifact_key text    NOT NULL,  -- identity of the artifact
    package_key  text,              -- package URL, if the identity is the digest of its checksum
    occurred_at  timestamptz NOT NULL,
    deleted      boolean NOT NULL,
    reinstates   boolean NOT NULL   -- the artifact may be used again
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
    requested      bigint      NOT NULL,  -- position of the request
    recorded_at    timestamptz NOT NULL,  -- of the request
    automatic      boolean     NOT NULL,
    by_person      boolean     NOT NULL,
    phase          text        NOT NULL,
    started        bigint,                -- position of the start
    ended          bigint                 -- position of the end
);

CREATE INDEX rollbacks_environment ON rollbacks (environment_id, requested);
CREATE UNIQUE INDEX rollbacks_requested ON rollbacks (requested);
-- The cost of the query before each deploy must not grow with the number of finished rollbacks.
CREATE INDEX rollbacks_active ON rollbacks (environment_id, requested) WHERE ended IS NULL;
CREATE INDEX rollbacks_automatic ON rollbacks (environment_id, recorded_at) WHERE automatic;
CREATE INDEX rollbacks_automatic_ended ON rollbacks (environment_id, ended)
    WHERE automatic AND phase IN ('succeeded', 'failed');

-- Lanes of a rollback's plan, each with the release that the rollback leaves and the one that it restores.
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
    to_version        text,           -- this and the next four: the restored release; null: none
    to_artifact       text,
    to_config         text,
    to_infrastructure text,
    to_commit         text,
    PRIMARY KEY (environment_id, service, target, requested)
);

-- Reports that carry a rollback's id.
CREATE TABLE rollback_reports (
    rollback_id text   NOT NULL,
    position    bigint NOT NULL,
    PRIMARY KEY (rollback_id, position)
);

CREATE INDEX rollback_reports_position ON rollback_reports (position);

-- Observed state of each lane.
CREATE TABLE observations (
    environment_id    integer     NOT NULL,
    service           text        NOT NULL,
    target            text        NOT NULL,
    slot              text,
    version           text,                  -- null: nothing ran
    artifact          text,
    config            text,
    infrastructure    text,
    commit            text,
    since_position    bigint      NOT NULL,  -- of the first in the unbroken series that agrees with the last
    since_occurred_at timestamptz NOT NULL,
    since_event_id    text        NOT NULL,
    last_position     bigint      NOT NULL,
    last_occurred_at  timestamptz NOT NULL,
    last_event_id     text        NOT NULL,
    PRIMARY KEY (environment_id, service, target)
);

-- Subscriptions that are not removed; their settings are in `events`.
CREATE TABLE subscriptions (
    name               text   PRIMARY KEY,
    created_position   bigint NOT NULL,  -- of the event that created it
    settings_position  bigint NOT NULL,  -- of the event that stated its present settings
    disabled_position  bigint,           -- of the event that disabled it; null: enabled
    delivered_position bigint            -- up to which it was delivered when it was last disabled
);

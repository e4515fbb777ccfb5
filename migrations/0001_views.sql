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

CREATE INDEX tracks_environment ON tracks (environment_id);

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
    late           boolean     NOT NULL,  -- the track already had a change that occurred later
    change_number  bigint                 -- counts the changes of the environment's composition
);

CREATE INDEX lane_changes_position ON lane_changes (track_id, position) WHERE NOT late;
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

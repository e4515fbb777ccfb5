-- Reads of the histories, for auditors. They are no events: what is here is not in any stream, and is lost with the database.
CREATE TABLE reads (
    id                uuid        NOT NULL PRIMARY KEY,  -- of version 7: in the order of the requests
    began_at          timestamptz NOT NULL,
    ended_at          timestamptz,                       -- null while an answer is sent, and after a crash
    tenant            text        NOT NULL,
    principal_kind    text        NOT NULL,
    principal_issuer  text        NOT NULL,
    principal_subject text        NOT NULL,
    principal_name    text        NOT NULL,
    request_id        text        NOT NULL,
    route             text        NOT NULL,
    query             text        NOT NULL,
    is_export         boolean     NOT NULL,
    status            integer,                           -- null if the request ended before its answer
    entries           bigint      NOT NULL,              -- number of entries that the answer shows
    first_position    bigint,                            -- the lowest and the highest position of these
    last_position     bigint
);

-- For the retention.
CREATE INDEX reads_began_at ON reads (began_at);
-- For questions about a principal, by either of its names.
CREATE INDEX reads_name ON reads (principal_name, id);
CREATE INDEX reads_subject ON reads (principal_subject, id);

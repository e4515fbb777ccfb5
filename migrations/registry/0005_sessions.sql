-- Sessions of browsers. They are no events: with the database they are lost, and people sign in again.
CREATE TABLE sessions (
    hash       bytea       NOT NULL PRIMARY KEY,  -- SHA-256 of the secret, which only the browser has
    issuer     text        NOT NULL,              -- of the principal
    subject    text        NOT NULL,
    principal  text        NOT NULL,              -- JSON
    token_hash bytea,                             -- of the API token with which the session began, if it did
    created_at timestamptz NOT NULL,
    ends_at    timestamptz NOT NULL
);

-- For the bound of the sessions of a principal.
CREATE INDEX sessions_principal ON sessions (issuer, subject, created_at);
-- For the removal of those that have ended.
CREATE INDEX sessions_ends_at ON sessions (ends_at);

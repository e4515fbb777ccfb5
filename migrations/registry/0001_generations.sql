-- What views there are in this database, for every tenant and every version of their form, and who folds them.
-- Programs of several versions use these tables at the same time: what is here keeps its meaning.

-- A generation is one filling of a tenant's views: a schema ledger_<tenant>_v<version>_<number> of its own.
CREATE TABLE generations (
    tenant      text        NOT NULL,
    version     integer     NOT NULL,  -- of the views' form
    number      integer     NOT NULL,  -- 1, 2, 3 …
    state       text        NOT NULL CHECK (state IN ('building', 'live', 'retired')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    live_at     timestamptz,           -- when questions were first answered from it
    retired_at  timestamptz,           -- when they no longer were
    owner       uuid,                  -- the process that folds into it
    owner_pid   integer,               -- with the next: the backend of that process's own connection
    owner_began timestamptz,
    owned_until timestamptz,           -- unless it says again that it does
    PRIMARY KEY (tenant, version, number)
);

CREATE UNIQUE INDEX generations_live ON generations (tenant, version) WHERE state = 'live';
CREATE UNIQUE INDEX generations_building ON generations (tenant, version) WHERE state = 'building';

-- The processes that serve, and the version of the views' form that each of them knows.
CREATE TABLE members (
    member  uuid        NOT NULL PRIMARY KEY,
    version integer     NOT NULL,
    folds   boolean     NOT NULL,  -- whether it has projectors
    tenants text[]      NOT NULL,
    pid     integer     NOT NULL,
    began   timestamptz NOT NULL,
    seen_at timestamptz NOT NULL
);

-- How far those who act on a ledger have come. What they did is in the ledger, so that they may begin again
-- from anywhere; and whichever generation they read, positions are the same.
CREATE TABLE followers (
    tenant   text   NOT NULL,
    name     text   NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant, name)
);

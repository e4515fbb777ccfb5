-- Leases of followers that act outside of the ledger, such as the writer of a Kafka topic: one process at a time acts in
-- the name of a follower.
CREATE TABLE leases (
    tenant     text        NOT NULL,
    name       text        NOT NULL,
    holder     uuid        NOT NULL,  -- the process
    epoch      bigint      NOT NULL,  -- grows with each acquisition
    expires_at timestamptz NOT NULL,  -- unless the holder renews it
    PRIMARY KEY (tenant, name)
);

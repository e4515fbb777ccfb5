-- Generations of older schema versions, once a newer version has been live, and no worker of the older one has been
-- seen, for a time.
SELECT tenant, version, number FROM release_ledger.generations g
WHERE tenant = ANY($1) AND version < $2
    AND EXISTS (SELECT FROM release_ledger.generations l
        WHERE l.tenant = g.tenant AND l.version = $2 AND l.state = 'live'
            AND l.live_at < clock_timestamp() - make_interval(secs => $3))
    AND NOT EXISTS (SELECT FROM release_ledger.members m
        WHERE m.version = g.version AND m.seen_at > clock_timestamp() - make_interval(secs => $3))

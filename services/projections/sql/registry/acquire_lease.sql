-- Acquires a lease that is free or expired if $5 is 0; otherwise renews that of the same process and this epoch. A renewal
-- after the lease expired, and before another process acquired it, keeps the epoch; one of a lost lease has no effect.
INSERT INTO release_ledger.leases AS l (tenant, name, holder, epoch, expires_at)
VALUES ($1, $2, $3, 1, clock_timestamp() + make_interval(secs => $4))
ON CONFLICT (tenant, name) DO UPDATE SET
    holder = excluded.holder,
    epoch = CASE WHEN l.holder = excluded.holder AND l.epoch = $5 THEN l.epoch ELSE l.epoch + 1 END,
    expires_at = excluded.expires_at
WHERE (l.expires_at < clock_timestamp() AND $5 = 0) OR (l.holder = excluded.holder AND l.epoch = $5)
RETURNING epoch

-- Does one index look-up per identity. The plan is independent of the number of identities, so Postgres can reuse it.
SELECT e.identity, e.position, e.bytes FROM unnest($1::uuid[]) AS k (identity)
CROSS JOIN LATERAL (
    SELECT identity, position, bytes FROM events
    WHERE identity = k.identity AND repeats IS NULL LIMIT 1
) e

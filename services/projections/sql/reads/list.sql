SELECT
    id, began_at, ended_at, tenant, principal_kind, principal_issuer, principal_subject, principal_name, request_id,
    route, query, is_export, status, entries, first_position, last_position
FROM release_ledger.reads
WHERE ($1::uuid IS NULL OR id < $1)
    AND ($2::text IS NULL OR principal_name = $2 OR principal_subject = $2)
    AND ($3::text IS NULL OR tenant = $3)
    AND ($4::timestamptz IS NULL OR began_at >= $4)
    AND ($5::timestamptz IS NULL OR began_at < $5)
    AND (NOT $6::boolean OR is_export)
ORDER BY id DESC LIMIT $7

-- A read is recorded when it begins, when it ends, or both. What is known at the end replaces what was known before.
INSERT INTO release_ledger.reads (
    id, began_at, ended_at, tenant, principal_kind, principal_issuer, principal_subject, principal_name, request_id,
    route, query, is_export, status, entries, first_position, last_position
)
SELECT * FROM unnest(
    $1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[],
    $9::text[], $10::text[], $11::text[], $12::boolean[], $13::integer[], $14::bigint[], $15::bigint[], $16::bigint[]
)
ON CONFLICT (id) DO UPDATE SET
    ended_at = excluded.ended_at,
    status = excluded.status,
    entries = excluded.entries,
    first_position = excluded.first_position,
    last_position = excluded.last_position
WHERE excluded.ended_at IS NOT NULL

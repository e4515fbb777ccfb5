SELECT tenant, version, number, state,
    coalesce(owned_until >= clock_timestamp(), false) AS owned
FROM release_ledger.generations ORDER BY tenant, version, number

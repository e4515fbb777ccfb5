INSERT INTO rollback_lanes (environment_id, service, target, requested, version,
    artifact, config, infrastructure, commit, to_version, to_artifact, to_config, to_infrastructure, to_commit)
SELECT $1, l.service, l.target, $2, l.version, l.artifact, l.config, l.infrastructure, l.commit, l.to_version,
    l.to_artifact, l.to_config, l.to_infrastructure, l.to_commit
FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
        $11::text[], $12::text[], $13::text[], $14::text[])
    l (service, target, version, artifact, config, infrastructure, commit, to_version, to_artifact, to_config,
        to_infrastructure, to_commit)
ON CONFLICT DO NOTHING

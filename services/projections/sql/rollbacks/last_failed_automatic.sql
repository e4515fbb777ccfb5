-- Selects the last automatic rollback that succeeded or failed, if it failed and no policy was declared since.
SELECT rollback_id, ended FROM (
    SELECT rollback_id, ended, phase FROM rollbacks
    WHERE environment_id = $1 AND automatic AND phase IN ('succeeded', 'failed') ORDER BY ended DESC LIMIT 1
) last
WHERE phase = 'failed'
    AND NOT EXISTS (SELECT FROM policies p WHERE p.environment_id = $1 AND p.position > last.ended)

-- Selects the reports with the rollback's id from its own environment, recorded after its request: other reports may
-- use the id by mistake. Leaves out corrected reports.
SELECT e.position, e.target, e.bytes
FROM rollbacks b JOIN environments n USING (environment_id)
JOIN rollback_reports r USING (rollback_id) JOIN events e ON e.position = r.position
WHERE b.rollback_id = $1 AND e.environment = n.name AND e.position > b.requested
    AND NOT EXISTS (SELECT FROM corrections k WHERE k.position = e.position)
ORDER BY e.position

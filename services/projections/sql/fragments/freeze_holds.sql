-- True for a row of `freezes` that holds at time `$2`, by the rule of `FreezePeriod::holds_at` in domain.
started_at <= $2 AND coalesce(ends_at, 'infinity') > $2 AND coalesce(lifted_at, 'infinity') > $2

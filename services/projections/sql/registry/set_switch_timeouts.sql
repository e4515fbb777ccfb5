-- Postgres ends the session of a process that stalls while others wait for its locks.
SELECT set_config('lock_timeout', '2s', true),
    set_config('idle_in_transaction_session_timeout', '5s', true)

# The service authenticates its clients, and commands find it by their context.

AUTHENTICATION=required
unset RELEASE_LEDGER_URL RELEASE_LEDGER_TOKEN

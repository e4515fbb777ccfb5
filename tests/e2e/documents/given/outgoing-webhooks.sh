# The service authenticates its clients, and commands have the token of an administrator.

AUTHENTICATION=required
release-ledger token generate --name ada --kind person --output ada.token >>ledger.toml
export RELEASE_LEDGER_TOKEN_FILE=$PWD/ada.token

# A service with an entry.

systemctl restart release-ledger
release-ledger emit deploy.succeeded --environment production --service search-api --version v948

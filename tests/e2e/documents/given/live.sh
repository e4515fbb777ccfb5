# A few entries.

for version in v946 v947 v948; do
    release-ledger emit deploy.succeeded --environment production --service search-api --version "$version"
done

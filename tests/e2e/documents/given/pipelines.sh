# What a pipeline has before the guide: a deploy that was reported with the wrong version, a deploy tool and test scripts,
# a message that cannot be understood, and exports.

release-ledger emit deploy.succeeded --environment production --service search-api --version v849 \
    --artifact pkg:cargo/search-api@0.8.49
stand_in helm <<'EOF'
echo "helm $*"
EOF
cat >e2e.sh <<'EOF'
#!/bin/sh
echo '<testsuite><testcase name="search"/></testsuite>' >junit.xml
EOF
cat >smoke.sh <<'EOF'
#!/bin/sh
EOF
chmod +x e2e.sh smoke.sh
cat >payload.json <<'EOF'
{"zen": "Keep it logically awesome.", "hook_id": 1}
EOF
echo 'X-GitHub-Event: ping' >headers.txt
curl --silent "$RELEASE_LEDGER_URL/v1/events" -H "Authorization: Bearer $RELEASE_LEDGER_TOKEN" \
    -H 'Content-Type: application/cdevents+json' \
    -d '{"context": {"version": "0.2.0", "id": "1", "source": "https://ci.example", "type": "dev.cdevents.change.merged.0.1.2"}}'
echo '{"at": "2024-05-01T12:00:00Z", "environment": "production", "service": "suggest", "version": "v12"}' |
    gzip >history.ndjson.gz

#!/usr/bin/env bash
# Copies the primary at the first start, then follows it.
set -euo pipefail

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    install --directory --owner postgres --group postgres --mode 0700 "$PGDATA"
    PGPASSWORD=$(cat /run/secrets/replication)
    export PGPASSWORD # written into the standby's configuration
    gosu postgres pg_basebackup --pgdata "$PGDATA" --slot standby --write-recovery-conf --checkpoint fast \
        --dbname "host=primary user=replicator application_name=standby"
    unset PGPASSWORD
fi
exec docker-entrypoint.sh postgres

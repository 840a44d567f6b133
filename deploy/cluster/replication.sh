#!/usr/bin/env bash
# Prepares a new primary for its standby; the image of PostgreSQL runs it once, when it makes the database.
set -euo pipefail

password=$(cat /run/secrets/replication)
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" --set password="$password" <<'SQL'
CREATE ROLE replicator REPLICATION LOGIN PASSWORD :'password';
SELECT pg_create_physical_replication_slot('standby');
-- An acknowledged commit is on both machines; without the standby writes wait. In force from the next start: nothing could be
-- committed while there is no standby yet.
ALTER SYSTEM SET synchronous_standby_names = 'standby';
SQL
echo "host replication replicator all scram-sha-256" >>"$PGDATA/pg_hba.conf"

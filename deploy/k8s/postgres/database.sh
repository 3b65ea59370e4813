#!/bin/sh
# database.sh: run once by postgres:15 when it makes its volume: our role, which owns our database and nothing else.
# The password is read by psql itself, so it is in no argument and no log.
set -eu
psql -X -q -v ON_ERROR_STOP=1 -U postgres -d postgres <<'SQL'
\set password `cat /secrets/database/db_password`
CREATE ROLE bore LOGIN PASSWORD :'password';
CREATE DATABASE bore_db OWNER bore;
SQL

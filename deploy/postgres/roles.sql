-- Creates the two roles of sessiond in the current database. Run it once, as a superuser:
--
--   psql "$ADMIN_URL" -v ON_ERROR_STOP=1 -f deploy/postgres/roles.sql
--
-- Then give both roles passwords (\password). Use sessiond_owner in the DATABASE_URL of "sessiond migrate"
-- only, and sessiond in that of serve, import and doctor.

CREATE ROLE sessiond_owner LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;
CREATE ROLE sessiond LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO sessiond_owner, sessiond', current_database());
END
$$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO sessiond_owner;
GRANT USAGE ON SCHEMA public TO sessiond;

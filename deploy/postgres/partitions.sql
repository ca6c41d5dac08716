-- Partitions of sessions and login_attempts by month. deploy/docs/partitions.md says when and how.
--
-- A range of ids is a range of times, because ids begin with their time. Every index and every query of
-- sessiond works on the partitioned tables as it is.

-- The smallest id of a point in time: 8 characters with the time in units of 16 µs (session/issuer/id.go).
CREATE OR REPLACE FUNCTION sessiond_id_at(at timestamptz) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT string_agg(substr('-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz',
        1 + (((extract(epoch FROM at) * 62500)::bigint >> (6 * n)) & 63)::int, 1), '' ORDER BY n DESC)
    FROM generate_series(0, 7) AS n
$$;

-- The beginning of a month in UTC, counted from the current month.
CREATE OR REPLACE FUNCTION sessiond_month(n int) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT (date_trunc('month', now() AT TIME ZONE 'UTC') + n * interval '1 month') AT TIME ZONE 'UTC'
$$;

-- sessiond_bound adds a constraint that lets sessiond_partition attach the existing rows without reading
-- them. It counts until the end of the month.
CREATE OR REPLACE PROCEDURE sessiond_bound(name text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT IF EXISTS partition_bound', name);
    EXECUTE format('ALTER TABLE %I ADD CONSTRAINT partition_bound CHECK (id < %L) NOT VALID', name, sessiond_id_at(sessiond_month(1)));
END
$$;

-- sessiond_partition turns a table into one that is partitioned by month. The existing rows, and those of
-- this month, stay in a partition named …_before. All indexes keep their names. A unique index that is not
-- the primary key becomes an ordinary index, because Postgres cannot keep it over all partitions.
CREATE OR REPLACE PROCEDURE sessiond_partition(name text) LANGUAGE plpgsql AS $$
DECLARE
    old          text := name || '_before';
    indexes      text[];
    keys         text[];
    foreign_keys text[];
    item         record;
    command      text;
BEGIN
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', name);

    -- Foreign keys of other tables lead to the old table and have to be made again.
    FOR item IN SELECT conrelid::regclass AS source, conname, pg_get_constraintdef(oid) AS def
        FROM pg_constraint WHERE confrelid = name::regclass AND contype = 'f'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', item.source, item.conname);
        foreign_keys := foreign_keys || format('ALTER TABLE %s ADD CONSTRAINT %I %s', item.source, item.conname, item.def);
    END LOOP;

    -- The new table gets the definitions and names of the constraints and indexes. Those of the old
    -- table get other names.
    FOR item IN SELECT conname, contype, pg_get_constraintdef(oid) AS def FROM pg_constraint
        WHERE conrelid = name::regclass AND contype IN ('p', 'f', 'u') ORDER BY contype = 'f'
    LOOP
        IF item.contype = 'u' THEN
            SELECT array_append(indexes, replace(pg_get_indexdef(conindid), 'CREATE UNIQUE INDEX', 'CREATE INDEX'))
                INTO indexes FROM pg_constraint WHERE conrelid = name::regclass AND conname = item.conname;
            EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', name, item.conname);
        ELSE
            keys := keys || format('ALTER TABLE %I ADD CONSTRAINT %I %s', name, item.conname, item.def);
            EXECUTE format('ALTER TABLE %I RENAME CONSTRAINT %I TO %I', name, item.conname, 'before_' || item.conname);
        END IF;
    END LOOP;
    FOR item IN SELECT indexrelid::regclass AS index, relname, pg_get_indexdef(indexrelid) AS def
        FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid WHERE indrelid = name::regclass AND NOT indisprimary
    LOOP
        -- An index that was made beforehand stands for a unique one.
        IF NOT item.relname LIKE 'partition\_%' THEN
            indexes := indexes || item.def;
        END IF;
        EXECUTE format('ALTER INDEX %s RENAME TO %I', item.index, 'before_' || item.relname);
    END LOOP;

    EXECUTE format('ALTER TABLE %I RENAME TO %I', name, old);
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS) PARTITION BY RANGE (id)', name, old);
    FOREACH command IN ARRAY keys LOOP EXECUTE command; END LOOP;
    FOREACH command IN ARRAY indexes LOOP EXECUTE command; END LOOP;
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (MINVALUE) TO (%L)', name, old, sessiond_id_at(sessiond_month(1)));
    EXECUTE format('ALTER TABLE %I DROP CONSTRAINT IF EXISTS partition_bound', old);
    -- A row that fits no month must not make a login fail.
    EXECUTE format('CREATE TABLE %I PARTITION OF %I DEFAULT', name || '_default', name);
    IF foreign_keys IS NOT NULL THEN
        FOREACH command IN ARRAY foreign_keys LOOP EXECUTE command; END LOOP;
    END IF;
END
$$;

-- sessiond_add_months creates the partitions of the next months. Call it at least once a month.
CREATE OR REPLACE PROCEDURE sessiond_add_months(ahead int) LANGUAGE plpgsql AS $$
DECLARE
    name  text;
    month text;
BEGIN
    FOREACH name IN ARRAY ARRAY['sessions', 'login_attempts'] LOOP
        FOR n IN 1..ahead LOOP
            month := name || to_char(sessiond_month(n) AT TIME ZONE 'UTC', '_YYYY_MM');
            IF to_regclass(month) IS NULL THEN
                EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)',
                    month, name, sessiond_id_at(sessiond_month(n)), sessiond_id_at(sessiond_month(n + 1)));
            END IF;
        END LOOP;
    END LOOP;
END
$$;

-- sessiond_drop_month drops the partitions of a month, such as '2026_03'. It fails if a session of that
-- month is not over, or if its end is younger than the longest access token.
CREATE OR REPLACE PROCEDURE sessiond_drop_month(month text) LANGUAGE plpgsql AS $$
DECLARE
    part text := 'sessions_' || month;
    alive bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM %I WHERE ended_at IS NULL AND expires_at > now() OR access_expires_at > now() - interval ''1 day''', part) INTO alive;
    IF alive > 0 THEN
        RAISE EXCEPTION '% sessions of % are not over', alive, month;
    END IF;
    EXECUTE format('DELETE FROM revoked_tokens WHERE session_id IN (SELECT id FROM %I)', part);
    EXECUTE format('ALTER TABLE sessions DETACH PARTITION %I', part);
    EXECUTE format('DROP TABLE %I', part);
    EXECUTE format('DROP TABLE %I', 'login_attempts_' || month);
END
$$;

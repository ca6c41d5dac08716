-- +goose Up

-- Which Redis server counts, and since when. Times are Unix milliseconds of this database's clock.

CREATE TABLE redis_epochs (
    epoch         INTEGER PRIMARY KEY,
    server        TEXT NOT NULL,   -- master_replid/place of the keys
    supersedes    TEXT NOT NULL,   -- on a Cluster, the server that this one was promoted from; '': all others
    registered_at BIGINT NOT NULL, -- since when it is confirmed without a gap; 0: not yet
    confirmed_at  BIGINT NOT NULL
);
CREATE INDEX outbox_queued ON outbox (topic, queued_at); -- finds the oldest revocation that waits

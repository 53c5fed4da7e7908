-- The hash of what an epoch's weights file holds: with an average of the weights, the training values are not in it.
ALTER TABLE epoch ADD COLUMN exported_sha256 TEXT NOT NULL DEFAULT '' -- '': from before it was recorded
    CHECK (length(exported_sha256) IN (0, 64));

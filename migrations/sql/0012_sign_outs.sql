-- How often all browsers were signed out, of a project or (as `stellwerk`) of the deployment: cookies name it.
CREATE TABLE IF NOT EXISTS sign_outs (
    project TEXT NOT NULL,
    count BIGINT NOT NULL,
    PRIMARY KEY (project)
);
COMMENT ON TABLE sign_outs IS 'how often all browsers of a project were signed out';

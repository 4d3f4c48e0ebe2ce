"""What graphs keep beside their state: the store and the cache that they were compiled with, in Postgres."""

"""Claims in several processes: workers of one run, and shards that divide what is larger than a process's share."""

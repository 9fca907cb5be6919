"""Load tests: Headgate against a bare HTTP echo server, in one run on one machine."""

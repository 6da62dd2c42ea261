"""Speed and memory against peers; see README.md. No part of the test run."""

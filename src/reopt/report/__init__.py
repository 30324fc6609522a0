"""What came out of a config, for people: scores, verdicts and figures as a page and in the terminal."""

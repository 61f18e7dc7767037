"""What several test files need. No test file imports another."""

"""The examples and pages, as users run them. A package, so that its server ends with its last test."""

"""Generated from api/**/*.proto by `make proto`; never edited."""

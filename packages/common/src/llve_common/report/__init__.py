"""Results for people: tables, plots and self-contained pages."""
